package host_test

import (
	"os"
	"testing"

	"github.com/amberhost/amber/host"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	dir := tasksDir(t, map[string]string{
		"one.js":    "/** The first. */\nmodule.exports = () => 1",
		"broken.js": "module.exports = (",
		"notes.txt": "no task",
	})
	r := start(t, func(c *host.Config) { c.TasksDir = dir })
	result := func(task string) string {
		t.Helper()
		run := r.execute(t, `{"taskName":"`+task+`"}`)
		return run.Status + " " + string(run.Result)
	}
	r.lines.await(t, "task not published", "broken.js:1:")
	r.lines.await(t, `msg="task created"`, "task=one", "file=one.js")

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

	if err := os.Remove(dir + "/one.js"); err != nil {
		t.Fatal(err)
	}
	r.lines.await(t, "file removed, its task stays", "file=one.js")
	if got := result("one"); got != "completed 4" {
		t.Errorf("removed: %s", got)
	}
}
