package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
)

// fetched returns a Postgres that the repository has: from the cache, where it
// stays for good, or else from the repository. missing says what this machine
// itself lacks.
func fetched(ctx context.Context, cfg Config, a account, missing *missingError) (binaries, error) {
	major := missing.major
	if major == 0 {
		major = newMajor
	}
	r, ok := releases[major]
	if !ok {
		return binaries{}, missing
	}
	c, err := cacheOf(cfg, a)
	if err != nil {
		return binaries{}, missing.unfetched(r.version(), err)
	}
	if b, ok := c.find(ctx, r); ok {
		return b, nil
	}
	b, err := c.fetch(ctx, r)
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil:
		return binaries{}, fmt.Errorf("fetch Postgres %s: %w", r.version(), ctx.Err())
	}
	if old, none := newest(c.all(ctx), major); none == nil {
		cfg.Log.Warn("using an older Postgres that was fetched before", "postgres", old.version(), "dir", old.dir, "err", err)
		return old, nil
	}
	return binaries{}, missing.unfetched(r.version(), err)
}

// errOffline: told not to fetch.
var errOffline = errors.New("downloads are switched off")

// fetch downloads, checks and unpacks a release. Nothing of one that fails stays.
func (c cache) fetch(ctx context.Context, r release) (binaries, error) {
	if c.cfg.Offline {
		return binaries{}, errOffline
	}
	from, err := repositoryOf(c.cfg.Repository)
	if err != nil {
		return binaries{}, err
	}
	p, err := here()
	if err != nil {
		return binaries{}, err
	}
	lock, err := c.lock(ctx, func() { c.cfg.Log.Info("waiting for another amber that fetches Postgres", "dir", c.dir) })
	if err != nil {
		return binaries{}, c.explain(err)
	}
	defer lock.Close()
	if b, ok := c.find(ctx, r); ok { // while we waited
		return b, nil
	}
	stage, err := c.stage()
	if err != nil {
		return binaries{}, c.explain(err)
	}
	defer os.RemoveAll(stage)
	if err := c.fill(ctx, from, p, r, stage); err != nil {
		return binaries{}, c.explain(err)
	}
	tree := filepath.Join(stage, "tree")
	if err := c.prove(ctx, tree, r); err != nil {
		return binaries{}, fmt.Errorf("the Postgres of %s for %s does not run on this machine: %w", from.Redacted(), p, err)
	}
	if err := c.install(tree, r); err != nil {
		return binaries{}, c.explain(err)
	}
	b, err := c.inspect(ctx, c.path(r))
	if err == nil {
		c.cfg.Log.Info("fetched Postgres "+b.version(), "dir", c.path(r))
	}
	return b, err
}

// fill makes stage/tree.
func (c cache) fill(ctx context.Context, from *url.URL, p platform, r release, stage string) error {
	jar := filepath.Join(stage, "archive.jar")
	d := newDownload(c.cfg.Log, "fetching Postgres "+r.version())
	defer d.close()
	if err := d.save(ctx, from.JoinPath(artifact(p, r)), jar); err != nil {
		return err
	}
	c.cfg.Log.Info("unpacking Postgres " + r.version())
	if err := unpack(ctx, jar, filepath.Join(stage, "tree")); err != nil {
		return fmt.Errorf("unpack %s: %w", from.JoinPath(artifact(p, r)).Redacted(), err)
	}
	return nil
}

// prove runs what was fetched.
func (c cache) prove(ctx context.Context, tree string, r release) error {
	if err := c.account.reach(tree); err != nil {
		return err
	}
	b, err := c.inspect(ctx, tree)
	if err == nil && b.version() != r.version() {
		err = fmt.Errorf("it is Postgres %s and not %s", b.version(), r.version())
	}
	return err
}

// explain says what to do about a cache that cannot be written.
func (c cache) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk is full: %s needs about %d MB free: %w", c.dir, roomMB, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s cannot be written: %w", c.dir, err)
	}
	return err
}

// roomMB is what a release takes: its archive, and what is in it.
const roomMB = 100
