package keys_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
)

func TestLoadOrCreateRing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "new", "keys")
	first, err := keys.LoadOrCreateRing(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	id, sealed, err := first.Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keys.LoadOrCreateRing(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Open(id, sealed, nil); err != nil {
		t.Errorf("the second load does not open what the first sealed: %v", err)
	}
}

func TestLoadOrCreateRingAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "keys")
	rings := make([]*keys.Ring, 16)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			var err error
			if rings[i], err = keys.LoadOrCreateRing(file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	id, sealed, err := rings[0].Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, ring := range rings {
		if _, err := ring.Open(id, sealed, nil); err != nil {
			t.Errorf("ring %d is another: %v", i, err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

func TestLoadOrCreateRingRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := newKey(t, "k")
	for name, tt := range map[string]struct{ file, want string }{
		"group":     {write("group", good, 0o640), "chmod 600"},
		"others":    {write("others", good, 0o604), "chmod 600"},
		"broken":    {write("broken", "k:short", 0o600), "entry 1"},
		"directory": {dir, "not a regular file"},
	} {
		if _, err := keys.LoadOrCreateRing(tt.file); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.file) {
			t.Errorf("%s: %v, want %q and the file's name", name, err, tt.want)
		}
	}
}
