package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// minMajor is the oldest Postgres whose SQL amber speaks.
const minMajor = 15

// ErrNoBinaries says that this machine has no Postgres that amber can run.
var ErrNoBinaries = errors.New("no usable Postgres on this machine")

const installHint = "install one (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17; or Postgres.app), " +
	"say where its programs are with AMBER_POSTGRES_BIN, or use a database of yours with DATABASE_URL"

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

// FindBinaries returns the directory and version ("15.4") of the newest
// Postgres on this machine, or an error that wraps [ErrNoBinaries] and says
// what to install.
func FindBinaries() (dir, version string, err error) {
	b, err := newest(search(), 0)
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
// major 0 is a directory yet to be made. A given binDir is the only candidate.
func choose(binDir string, major int) (binaries, error) {
	if binDir == "" {
		return newest(search(), major)
	}
	b, err := inspect(binDir)
	if err != nil {
		return binaries{}, fmt.Errorf("%w: AMBER_POSTGRES_BIN names %s, which has no postgres and initdb that run: %w", ErrNoBinaries, binDir, err)
	}
	return newest([]binaries{b}, major)
}

// search lists what is installed, each program once.
func search() []binaries {
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
		b, err := inspect(filepath.Dir(program)) // where links in PATH lead to
		if err != nil {
			b, err = inspect(dir)
		}
		if err == nil {
			found = append(found, b)
		}
	}
	return found
}

// newest picks among candidates those of a major version, if it is not 0.
func newest(candidates []binaries, major int) (binaries, error) {
	if len(candidates) == 0 {
		return binaries{}, fmt.Errorf("%w: %s", ErrNoBinaries, installHint)
	}
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
	switch {
	case best.dir != "":
		return best, nil
	case major != 0:
		return binaries{}, &versionError{major, others}
	}
	return binaries{}, fmt.Errorf("%w: found %s, amber needs %d or newer: %s",
		ErrNoBinaries, strings.Join(others, ", "), minMajor, installHint)
}

// versionError: the data directory is of a Postgres that is not here.
type versionError struct {
	major int
	found []string
}

func (e *versionError) Error() string {
	return fmt.Sprintf("it was made by Postgres %d, but this machine has %s: install Postgres %d or choose another directory with --data",
		e.major, strings.Join(e.found, ", "), e.major)
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

func inspect(dir string) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, err
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, err
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return binaries{}, fmt.Errorf("postgres --version says %q", out)
	}
	b := binaries{dir: dir}
	b.major, _ = strconv.Atoi(string(m[1])) // digits
	b.minor, _ = strconv.Atoi(string(m[2])) // digits, or none in a beta
	return b, nil
}
