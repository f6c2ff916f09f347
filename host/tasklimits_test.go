package host_test

import (
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/vm"
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

// TestTaskLimitSettings: each setting is its own limit, and what is not set is
// vm's default.
func TestTaskLimitSettings(t *testing.T) {
	t.Parallel()
	c, err := fromEnv("AMBER_LIMIT_CPU", "1s", "AMBER_LIMIT_RUN_CPU", "2s", "AMBER_LIMIT_MEMORY", "5MiB", "AMBER_LIMIT_CALLS", "4",
		"AMBER_LIMIT_VALUE", "5KiB", "AMBER_LIMIT_SNAPSHOT", "70KiB", "AMBER_LIMIT_LOG_LINES", "7", "AMBER_LIMIT_LOG_BYTES", "8KiB",
		"AMBER_LIMIT_RUN_LOG_LINES", "9", "AMBER_LIMIT_RUN_LOG_BYTES", "10KiB", "AMBER_LIMIT_DEPTH", "11", "AMBER_LIMIT_NESTED", "12")
	want := vm.Limits{CPU: time.Second, RunCPU: 2 * time.Second, Memory: 5 << 20, Calls: 4, Value: 5 << 10, Snapshot: 70 << 10,
		Lines: 7, LineBytes: 8 << 10, RunLines: 9, RunLineBytes: 10 << 10}
	if err != nil || c.TaskLimits != want {
		t.Errorf("got %+v, want %+v, %v", c.TaskLimits, want, err)
	}
	if c.MaxDepth != 11 || c.MaxNested != 12 {
		t.Errorf("tasks may be nested %d deep and %d in all", c.MaxDepth, c.MaxNested)
	}
	if c, err = fromEnv(); err != nil || c.TaskLimits != vm.DefaultLimits() {
		t.Errorf("by default %+v, vm has %+v, %v", c.TaskLimits, vm.DefaultLimits(), err)
	}
}
