package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, code string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	first := write("publish-a.js", "module.exports = () => 1;")
	second := write("below/publish-b.mjs", "/** Says two. */\nexport default () => 2;")

	code, stdout, stderr := amber(t, on(t, "publish", dir)...)
	if want := "created    publish-b  (" + second + ")\ncreated    publish-a  (" + first + ")\n"; code != 0 || stdout != want {
		t.Fatalf("exit %d, got\n%s%s\nwant\n%s", code, stdout, stderr, want)
	}
	write("publish-a.js", "module.exports = () => {\n  return 3 +;\n};")
	write("publish-c.js", "module.exports = () => 4;")
	code, stdout, stderr = amber(t, on(t, "publish", dir, second)...)
	if code != exitFailed {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"unchanged  publish-b", "created    publish-c"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	for _, want := range []string{first + ":2:", "is called publish-b too", "2 of 4 files refused"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
	// What was published before the refusal stays.
	if code, stdout, stderr := amber(t, on(t, "run", "publish-a")...); code != 0 || stdout != "1\n" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	write("publish-a.js", "module.exports = () => 6;")
	if code, stdout, _ := amber(t, on(t, "publish", first)...); code != 0 || !strings.HasPrefix(stdout, "updated    publish-a") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if code, stdout, _ := amber(t, on(t, "publish", first, "--retention", "720h")...); code != 0 || !strings.HasPrefix(stdout, "updated    publish-a") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if code, stdout, _ := amber(t, on(t, "publish", first)...); code != 0 || !strings.HasPrefix(stdout, "unchanged  publish-a") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if code, _, stderr := amber(t, on(t, "publish", first, "--retention", "30 days")...); code != 2 || !strings.Contains(stderr, "want something like 168h (7 days), or off") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
