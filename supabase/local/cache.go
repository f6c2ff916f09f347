package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultCacheDir is where fetched Postgres programs are kept unless told
// otherwise: below /var/cache for root, whose home Postgres may not enter, else
// in the user's cache.
func DefaultCacheDir(uid int) (string, error) {
	if uid == 0 {
		return "/var/cache/amber/postgres", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for fetched programs: %w", err)
	}
	return filepath.Join(dir, "amber", "postgres"), nil
}

// cache is a directory of fetched Postgres programs:
//
//	lock           held while one is fetched
//	17.10.0/       a release: bin, lib, share
//	.new-<random>  one that is being fetched, or was when its process was killed
type cache struct {
	dir     string
	cfg     Config
	account account // who runs what is in it
}

const newPrefix = ".new-"

func cacheOf(cfg Config, a account) (cache, error) {
	dir := cfg.CacheDir
	if dir == "" {
		var err error
		if dir, err = DefaultCacheDir(os.Geteuid()); err != nil {
			return cache{}, err
		}
	}
	dir, err := resolve(dir)
	return cache{dir, cfg, a}, err
}

func (c cache) path(r release) string { return filepath.Join(c.dir, string(r)) }

// inspect asks a release what it is, as the account that runs it.
func (c cache) inspect(ctx context.Context, tree string) (binaries, error) {
	return inspectAs(ctx, c.cfg, filepath.Join(tree, "bin"), c.account.sysProcAttr())
}

// find returns a release that was fetched before.
func (c cache) find(ctx context.Context, r release) (binaries, bool) {
	b, err := c.inspect(ctx, c.path(r))
	return b, err == nil
}

// all lists what was fetched at any time.
func (c cache) all(ctx context.Context) (found []binaries) {
	trees, _ := filepath.Glob(filepath.Join(c.dir, "[0-9]*")) // well-formed
	for _, tree := range trees {
		if b, err := c.inspect(ctx, tree); err == nil {
			found = append(found, b)
		}
	}
	return found
}

// lock makes the cache and waits for its lock, which dies with its holder: one
// process fetches, and those that waited find what it has fetched.
func (c cache) lock(ctx context.Context, waiting func()) (*os.File, error) {
	if err := makeDirs(c.dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !told {
			waiting()
		}
		if err := pause(ctx); err != nil {
			f.Close()
			return nil, err
		}
	}
}

// stage makes a directory for a release that is not complete, and removes those
// of killed processes. The lock must be held.
func (c cache) stage() (string, error) {
	stale, _ := filepath.Glob(filepath.Join(c.dir, newPrefix+"*"))
	for _, dir := range stale {
		_ = os.RemoveAll(dir) // in nobody's way if it stays
	}
	dir, err := os.MkdirTemp(c.dir, newPrefix)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// install gives a complete release its name, after it has reached the disk:
// it must not be found half-written after a power failure.
func (c cache) install(tree string, r release) error {
	syscall.Sync()
	if err := os.RemoveAll(c.path(r)); err != nil { // one that no longer runs
		return err
	}
	return os.Rename(tree, c.path(r))
}
