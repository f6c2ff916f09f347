package vm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCacheFiles: of what lies in the cache, only what is as it was sealed stays.
func TestCacheFiles(t *testing.T) {
	t.Parallel()
	c, err := openCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.dir, "wazero-1-amd64-linux")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	for _, name := range []string{"good", "changed", "cut", "forged", "unsealed"} {
		write(name, "code of "+name)
	}
	if err := c.seal(); err != nil {
		t.Fatal(err)
	}
	write("changed", "code of changeD")
	write("cut", "")
	write("forged.sha256", strings.Repeat("0", 64))
	if err := os.Remove(filepath.Join(dir, "unsealed.sha256")); err != nil {
		t.Fatal(err)
	}
	write("writing.1.tmp", "by another process")
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	if got := files(); !slices.Equal(got, []string{"good", "good.sha256", "writing.1.tmp"}) {
		t.Errorf("%v stay", got)
	}
	write("changed", "compiled anew")
	if err := c.seal(); err != nil {
		t.Fatal(err)
	}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	if got := files(); !slices.Equal(got, []string{"changed", "changed.sha256", "good", "good.sha256", "writing.1.tmp"}) {
		t.Errorf("%v stay after another is sealed", got)
	}
	if err := c.clear(); err != nil {
		t.Fatal(err)
	}
	if got := files(); !slices.Equal(got, []string{"writing.1.tmp"}) {
		t.Errorf("%v stay after all is cleared", got)
	}
}
