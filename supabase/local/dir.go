package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// DefaultDir is where amber keeps a user's data unless told otherwise: below
// /var/lib for root, whose home Postgres may not enter, else where the system
// has the data of a user's programs, which $XDG_DATA_HOME may say.
func DefaultDir(uid int) (string, error) {
	if uid == 0 {
		return "/var/lib/amber", nil
	}
	if base := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(base) { // to be ignored if it is not
		return filepath.Join(base, "amber"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a place for data: %w: choose one with --data", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "amber"), nil
	}
	return filepath.Join(home, ".local", "share", "amber"), nil
}

// HasDatabase reports whether Start would find a database in a directory.
func HasDatabase(dir string) (bool, error) {
	l, err := layoutOf(dir)
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(l.data)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// layout names what is in a directory; see the package comment.
type layout struct {
	dir, lock, data, run, log string
}

func layoutOf(dir string) (layout, error) {
	dir, err := resolve(dir)
	if err != nil {
		return layout{}, err
	}
	return layout{
		dir:  dir,
		lock: filepath.Join(dir, "lock"),
		data: filepath.Join(dir, "data"),
		run:  filepath.Join(dir, "run"),
		log:  filepath.Join(dir, "server.log"),
	}, nil
}

// resolve makes a path absolute and free of links as far as it exists, so that
// one directory has one name.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
		return real, err
	}
	parent, err := resolve(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// major reads which Postgres made the data directory; 0 if there is none.
func (l layout) major() (int, error) {
	text, err := readSmall(filepath.Join(l.data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(l.data); err == nil {
			return 0, fmt.Errorf("%s is there, but is no Postgres data directory: remove it or choose another directory with --data", l.data)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || major <= 0 {
		return 0, fmt.Errorf("%s names no version of Postgres", filepath.Join(l.data, "PG_VERSION"))
	}
	return major, nil
}

// maxSocketPath is what sun_path holds on Linux, and one more than on macOS.
const maxSocketPath = 104 - 1

// socketDir is where the unix socket goes; empty where its path would be
// longer than the system allows, and loopback has to do.
func (l layout) socketDir(port int) string {
	if len(filepath.Join(l.run, ".s.PGSQL."+strconv.Itoa(port))) > maxSocketPath {
		return ""
	}
	return l.run
}

// makeDirs makes dir and what is missing above it, so that others may pass
// through whatever the umask is.
func makeDirs(dir string) error {
	err := os.Mkdir(dir, 0o755)
	switch {
	case err == nil:
		return os.Chmod(dir, 0o755)
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDirs(filepath.Dir(dir)); err != nil {
			return err
		}
		return makeDirs(dir)
	case errors.Is(err, fs.ErrExist):
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return nil
		}
	}
	return err
}

// readSmall reads a file that should be a few lines. It follows no link: as
// root, it reads what another account wrote.
func readSmall(file string) (string, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(text), err
}
