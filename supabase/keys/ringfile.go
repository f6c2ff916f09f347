package keys

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// LoadOrCreateRing reads a ring from a file, or puts a ring of one fresh key
// there if there is no file. It refuses a file that anyone but its owner may
// use. Processes that create the same file at once end up with the same ring.
func LoadOrCreateRing(file string) (*Ring, error) {
	ring, err := loadRing(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	if err := createRing(file); err != nil {
		return nil, fmt.Errorf("create key file: %w", err)
	}
	return loadRing(file)
}

func loadRing(file string) (*Ring, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read key file: %s is not a regular file", file)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read key file: others may use %s (mode %04o): run chmod 600 on it, and replace its keys if someone may have read it", file, mode)
	}
	const limit = 64 << 10
	text, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	ring, err := ParseRing(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return ring, nil
}

// FreshID returns an id for a key that is made now: the day, and four random
// digits, since two keys of one id cannot be told apart.
func FreshID(now time.Time) string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return "k" + now.UTC().Format("20060102") + "-" + hex.EncodeToString(b[:])
}

// createRing writes a whole file beside the wanted one and links it there: no
// other process sees half of it, and none replaces another's.
func createRing(file string) error {
	entry, err := NewKey(FreshID(time.Now()))
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(entry + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
