package host_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/host"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	dir := tasksDir(t, map[string]string{
		"one.js":    "/** The first. */\nmodule.exports = () => 1",
		"broken.js": "module.exports = (",
		"notes.txt": "no task",
		"typed.ts":  "export default (n: number) => n",
	})
	r := start(t, func(c *host.Config) { c.TasksDir = dir })
	result := func(task string) string {
		t.Helper()
		run := r.execute(t, `{"taskName":"`+task+`"}`)
		return run.Status + " " + string(run.Result)
	}
	r.lines.await(t, "task not published", "broken.js:1:")
	r.lines.await(t, `msg="task created"`, "task=one", "file=one.js")
	r.lines.await(t, "not a task: TypeScript is not compiled here; publish the .js of it", "file=typed.ts")
	if got := r.info.Tasks; !slices.Equal(got, []string{"one"}) {
		t.Errorf("published at the start: %q", got)
	}

	write(t, dir, "one.js", "module.exports = () => 2")
	r.lines.await(t, `msg="task updated"`, "task=one")
	if got := result("one"); got != "completed 2" {
		t.Errorf("changed: %s", got)
	}

	write(t, dir, "one.js", "module.exports = () =>\n  3 +")
	r.lines.await(t, "task not published", "one.js:2:")
	if got := result("one"); got != "completed 2" {
		t.Errorf("a file that does not parse: %s", got)
	}

	// As editors do: write aside, rename.
	write(t, dir, ".one.js.swp", "module.exports = () => 4")
	if err := os.Rename(dir+"/.one.js.swp", dir+"/one.js"); err != nil {
		t.Fatal(err)
	}
	r.lines.await(t, `msg="task updated"`, "task=one")
	if got := result("one"); got != "completed 4" {
		t.Errorf("renamed: %s", got)
	}

	write(t, dir, "two.mjs", "export default () => 'two'")
	r.lines.await(t, `msg="task created"`, "task=two")

	if err := os.Mkdir(dir+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/sub", "three.js", "module.exports = () => 3")
	r.lines.await(t, `msg="task created"`, "task=three")
	write(t, dir+"/sub", "three.js", "module.exports = () => 33")
	r.lines.await(t, `msg="task updated"`, "task=three")

	write(t, dir+"/sub", "two.js", "module.exports = () => 'another two'")
	r.lines.await(t, "task not published", "sub/two.js", "two.mjs is a task of that name already")

	if err := os.Mkdir(dir+"/v1.0", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/v1.0", "four.js", "module.exports = () => 4")
	r.lines.await(t, `msg="task created"`, "task=four")

	if err := os.Remove(dir + "/one.js"); err != nil {
		t.Fatal(err)
	}
	r.lines.await(t, "file removed, its task stays", "file=one.js")
	if got := result("one"); got != "completed 4" {
		t.Errorf("removed: %s", got)
	}
	if rest := r.lines.rest(); strings.Contains(rest, "typed.ts") {
		t.Errorf("said twice that typed.ts is no task:\n%s", rest)
	}
}

// TestVanished: a file that is gone when it is read, though it was listed, is
// still known when it is removed.
func TestVanished(t *testing.T) {
	t.Parallel()
	elsewhere := tasksDir(t, map[string]string{"target": "module.exports = () => 1"}) + "/target"
	dir := t.TempDir()
	if err := os.Symlink(elsewhere, dir+"/link.js"); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *host.Config) { c.TasksDir = dir })
	r.lines.await(t, `msg="task created"`, "task=link")
	if err := os.Remove(elsewhere); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "next.js", "module.exports = () => 2")
	r.lines.await(t, `msg="task created"`, "task=next")
	if err := os.Remove(dir + "/link.js"); err != nil {
		t.Fatal(err)
	}
	r.lines.await(t, "file removed, its task stays", "file=link.js")
}

// TestWatchAgain: a tasks directory that is removed and made again is watched again.
func TestWatchAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/.tasks"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "two.js", "module.exports = () => 2")
	r := start(t, func(c *host.Config) { c.TasksDir = dir })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r.lines.await(t, `msg="watching tasks"`, "no such file or directory")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "three.js", "module.exports = () => 3")
	r.lines.await(t, `msg="task created"`, "task=three")
	write(t, dir, "three.js", "module.exports = () => 33")
	r.lines.await(t, `msg="task updated"`, "task=three")
}
