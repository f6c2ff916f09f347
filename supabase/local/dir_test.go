package local_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/amberhost/amber/supabase/local"
)

func TestDefaultDir(t *testing.T) { // not parallel: it sets the environment
	below := ".local/share/amber"
	if runtime.GOOS == "darwin" {
		below = "Library/Application Support/amber"
	}
	for name, test := range map[string]struct {
		uid        int
		home, data string
		want       string
	}{
		"root":     {0, "/root", "/data", "/var/lib/amber"},
		"home":     {1000, "/home/ada", "", "/home/ada/" + below},
		"XDG":      {1000, "/home/ada", "/data", "/data/amber"},
		"not XDG":  {1000, "/home/ada", "data", "/home/ada/" + below},
		"homeless": {1000, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", test.home)
			t.Setenv("XDG_DATA_HOME", test.data)
			dir, err := local.DefaultDir(test.uid)
			if dir != test.want || (err != nil) != (test.want == "") {
				t.Errorf("%q, %v; want %q", dir, err, test.want)
			}
		})
	}
}

func TestDefaultCacheDir(t *testing.T) { // not parallel: it sets the environment
	home := "/home/ada/.cache/amber/postgres"
	if runtime.GOOS == "darwin" {
		home = "/home/ada/Library/Caches/amber/postgres"
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "/home/ada")
	for uid, want := range map[int]string{0: "/var/cache/amber/postgres", 1000: home} {
		if dir, err := local.DefaultCacheDir(uid); dir != want || err != nil {
			t.Errorf("of user %d: %q, %v; want %q", uid, dir, err, want)
		}
	}
	t.Setenv("HOME", "")
	if dir, err := local.DefaultCacheDir(1000); err == nil {
		t.Errorf("without a home: %q", dir)
	}
}

func TestHasDatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgres")
	if has, err := local.HasDatabase(dir); has || err != nil {
		t.Errorf("nothing there: %v, %v", has, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if has, err := local.HasDatabase(dir); !has || err != nil {
		t.Errorf("data there: %v, %v", has, err)
	}
}
