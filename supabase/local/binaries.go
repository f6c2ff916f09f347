package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// minMajor is the oldest Postgres whose SQL amber speaks.
const minMajor = 15

// binDirs is where the programs are besides PATH: Debian, Red Hat's PGDG,
// Alpine, SUSE, Homebrew on either processor, Postgres.app.
var binDirs = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
	"/usr/lib/postgresql*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// FindBinaries returns the directory and version ("15.4") of the Postgres in
// binDir, or, if that is "", of the newest that is installed on this machine.
// It fetches nothing. Its error wraps [ErrNoBinaries] and says what to install.
func FindBinaries(binDir string) (dir, version string, err error) {
	b, err := find(context.Background(), Config{BinDir: binDir}, 0)
	return b.dir, b.version(), err
}

type binaries struct {
	dir          string
	major, minor int
}

func (b binaries) version() string {
	if b.dir == "" {
		return ""
	}
	return fmt.Sprintf("%d.%d", b.major, b.minor)
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// choose finds the binaries to run a data directory of a major version with;
// major 0 is a directory yet to be made. What this machine has comes before what
// can be fetched, and nothing is fetched where Config.BinDir is given.
func choose(ctx context.Context, cfg Config, major int, a account) (binaries, error) {
	b, err := find(ctx, cfg, major)
	var missing *missingError
	if cfg.BinDir != "" || !errors.As(err, &missing) {
		return b, err
	}
	return fetched(ctx, cfg, a, missing)
}

// find looks for binaries on this machine.
func find(ctx context.Context, cfg Config, major int) (binaries, error) {
	var candidates []binaries
	if cfg.BinDir == "" {
		candidates = search(ctx, cfg)
	} else {
		b, err := inspect(ctx, cfg, cfg.BinDir)
		if err != nil {
			return binaries{}, fmt.Errorf("%w: %s names %s, which has no postgres and initdb that run: %w", ErrNoBinaries, cmp.Or(cfg.BinDirVia, "AMBER_POSTGRES_BIN"), cfg.BinDir, err)
		}
		candidates = append(candidates, b)
	}
	if ctx.Err() != nil {
		return binaries{}, ctx.Err()
	}
	return newest(candidates, major)
}

// search lists what is installed, each program once.
func search(ctx context.Context, cfg Config) []binaries {
	if cfg.bare {
		return nil
	}
	var dirs []string
	if file, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(file))
	}
	for _, pattern := range binDirs {
		matches, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, matches...)
	}
	var found []binaries
	seen := map[string]bool{}
	for _, dir := range dirs {
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
		if err != nil || seen[program] {
			continue
		}
		seen[program] = true
		b, err := inspect(ctx, cfg, filepath.Dir(program)) // where links in PATH lead to
		if errors.Is(err, fs.ErrNotExist) {
			b, err = inspect(ctx, cfg, dir)
		}
		if err == nil {
			found = append(found, b)
		} else if cfg.Log != nil && ctx.Err() == nil {
			cfg.Log.Warn("a Postgres that does not run", "dir", dir, "err", err)
		}
	}
	return found
}

// newest picks among candidates those of a major version, if it is not 0.
func newest(candidates []binaries, major int) (binaries, error) {
	var best binaries
	var others []string
	for _, b := range candidates {
		if b.major < minMajor || major != 0 && b.major != major {
			others = append(others, fmt.Sprintf("%s in %s", b.version(), b.dir))
			continue
		}
		if b.major > best.major || b.major == best.major && b.minor > best.minor {
			best = b
		}
	}
	if best.dir == "" {
		return binaries{}, &missingError{major, others}
	}
	return best, nil
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// versionPatience is how long a program called postgres may take to say what it is.
const versionPatience = 10 * time.Second

// inspect asks the programs in a directory what they are.
func inspect(ctx context.Context, cfg Config, dir string) (binaries, error) {
	return inspectAs(ctx, cfg, dir, &syscall.SysProcAttr{Setpgid: true})
}

// inspectAs is inspect as another user; attr begins a process group.
func inspectAs(ctx context.Context, cfg Config, dir string, attr *syscall.SysProcAttr) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, err
	}
	out, err := versionOf(ctx, cfg, filepath.Join(dir, "postgres"), attr)
	if err != nil {
		return binaries{}, err
	}
	m := versionText.FindStringSubmatch(out)
	if m == nil {
		return binaries{}, fmt.Errorf("postgres --version says %q", out)
	}
	b := binaries{dir: dir}
	b.major, _ = strconv.Atoi(m[1]) // digits
	b.minor, _ = strconv.Atoi(m[2]) // digits, or none in a beta
	return b, nil
}

func versionOf(ctx context.Context, cfg Config, program string, attr *syscall.SysProcAttr) (string, error) {
	patience := versionPatience
	if cfg.patience != 0 {
		patience = cfg.patience
	}
	timed, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(timed, program, "--version")
	cmd.Dir = "/"               // another user may not be where we are
	if attr.Credential != nil { // nor have what is ours
		cmd.Env = environment("/")
	}
	cmd.SysProcAttr = attr
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for children of its own that left the group
	var out, problem head
	cmd.Stdout, cmd.Stderr = &out, &problem
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case timed.Err() != nil:
		return "", fmt.Errorf("%s --version says nothing for %v", program, patience)
	}
	if said := strings.TrimSpace(problem.String()); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return "", err
}

// head keeps the beginning of what a program says, however much that is.
type head struct{ strings.Builder }

func (h *head) Write(p []byte) (int, error) {
	h.Builder.Write(p[:min(len(p), max(0, 4096-h.Len()))])
	return len(p), nil
}
