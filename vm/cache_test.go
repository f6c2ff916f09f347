package vm_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/vm"
)

// TestCompileCache: compiled code is kept and found again; what is damaged,
// forged or left over is made anew, and none of it is run.
func TestCompileCache(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	begin := func() {
		t.Helper()
		e, err := vm.New(t.Context(), vm.Options{CacheDir: dir, Keys: ring()})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(context.Background())
		wantResult(t, startAs(t, e, `module.exports = () => 1`, ""), "1")
	}
	code := func() string {
		t.Helper()
		files, err := filepath.Glob(dir + "/wazero-*/*")
		if err != nil || len(files) != 2 || files[1] != files[0]+".sha256" {
			t.Fatalf("%v, %v", files, err)
		}
		return files[0]
	}
	begin()
	file := code()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	written := func() time.Time {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	first := written()
	begin()
	if !written().Equal(first) {
		t.Error("it was compiled again")
	}
	flipped := bytes.Clone(good)
	flipped[40] ^= 1 // of a function's place, which wazero does not check
	if err := os.WriteFile(file, flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	before := written()
	begin()
	if b, err := os.ReadFile(code()); err != nil || !bytes.Equal(b, good) || written().Equal(before) {
		t.Errorf("damaged code was not made anew: %d bytes, %v", len(b), err)
	}
}

func TestCacheOfAnotherUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chown(dir, 1, -1); err != nil {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a directory away")
		}
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.New(t.Context(), vm.Options{Keys: ring(), CacheDir: dir}); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("%v", err)
	}
}
