package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetratelabs/wazero"
)

// compileCache keeps compiled code between processes, one file for each engine,
// and beside each its digest: what lies there is run as native code, and wazero
// checks a part of it alone. A file that is not what was written is made anew.
type compileCache struct{ dir string }

const sumSuffix = ".sha256"

// openCache prepares a directory that nobody else can write.
func openCache(dir string) (compileCache, error) {
	c := compileCache{dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return c, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return c, err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return c, fmt.Errorf("%s can be written by others (%v): chmod go-w it or choose another directory", dir, mode)
	}
	if owner, ok := ownerOf(info); ok && owner != os.Geteuid() && owner != 0 {
		return c, fmt.Errorf("%s belongs to another user (%d): choose another directory", dir, owner)
	}
	return c, c.check()
}

// use is wazero's view of it.
func (c compileCache) use() (wazero.CompilationCache, error) {
	return wazero.NewCompilationCacheWithDir(c.dir)
}

// check removes what is not as it was written.
func (c compileCache) check() error {
	return c.each(func(file string) error {
		want, err := os.ReadFile(file + sumSuffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if got, err := sumOf(file); err != nil || got == string(want) {
			return ignoreGone(err)
		}
		return remove(file)
	})
}

// remove removes compiled code and its digest.
func remove(file string) error {
	return errors.Join(ignoreGone(os.Remove(file)), ignoreGone(os.Remove(file+sumSuffix)))
}

// seal notes the digests of files that were written since.
func (c compileCache) seal() error {
	return c.each(func(file string) error {
		if _, err := os.Stat(file + sumSuffix); err == nil {
			return nil // of one that was checked, or that another process has written
		}
		sum, err := sumOf(file)
		if err != nil {
			return ignoreGone(err)
		}
		f, err := os.CreateTemp(filepath.Dir(file), "sum-*.tmp")
		if err != nil {
			return err
		}
		_, err = f.WriteString(sum)
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), file+sumSuffix)
		}
		if err != nil {
			os.Remove(f.Name())
		}
		return err
	})
}

// clear removes everything that was compiled.
func (c compileCache) clear() error {
	return c.each(remove)
}

// each calls do for the files that wazero keeps: below one directory for each of
// its versions and kinds of machine.
func (c compileCache) each(do func(file string) error) error {
	files, err := filepath.Glob(filepath.Join(c.dir, "wazero-*", "*"))
	for _, file := range files {
		if strings.HasSuffix(file, sumSuffix) || strings.HasSuffix(file, ".tmp") { // wazero's are renamed when they are whole
			continue
		}
		err = errors.Join(err, do(file))
	}
	return err
}

func sumOf(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// ignoreGone: another process removes and writes the same files.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
