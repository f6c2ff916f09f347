package host_test

import (
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/host"
)

// TestTaskLimits: what the settings say holds for tasks, and a task that goes
// too far is told so; others go on meanwhile.
func TestTaskLimits(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *host.Config) {
		c.TaskLimits.CPU, c.TaskLimits.Memory, c.TaskLimits.Value = time.Second, 8<<20, 100_000
		c.TasksDir = tasksDir(t, map[string]string{
			"loop.js":    `module.exports = () => { for (;;); }`,
			"hoard.js":   `module.exports = () => { const a = []; for (;;) a.push({ a }) }`,
			"recurse.js": `module.exports = function f() { return f() + 1 }`,
			"large.js":   `module.exports = () => 'x'.repeat(100001)`,
			"guarded.js": `module.exports = async (i, { tools }) => {
				const codes = [];
				for (const name of ['loop', 'hoard', 'recurse', 'large']) {
					try { await tools.tasks.execute(name, {}) } catch (e) { codes.push(e.code) }
				}
				return codes.join() }`,
		})
	})
	for task, want := range map[string][2]string{
		"loop":    {"CPU_LIMIT", "CPU time limit exceeded"},
		"hoard":   {"MEMORY_LIMIT", "out of memory"},
		"recurse": {"STACK_LIMIT", "Maximum call stack size exceeded"},
		"large":   {"RESULT_TOO_LARGE", "at most 100000"},
	} {
		run := r.execute(t, `{"taskName":"`+task+`"}`)
		if run.Status != "failed" || run.Error.Code != want[0] || !strings.Contains(run.Error.Message, want[1]) {
			t.Errorf("%s: %s %+v", task, run.Status, run.Error)
		}
	}
	if run := r.execute(t, `{"taskName":"guarded"}`); string(run.Result) != `"CPU_LIMIT,MEMORY_LIMIT,STACK_LIMIT,RESULT_TOO_LARGE"` {
		t.Errorf("%s %+v", run.Result, run.Error)
	}
}
