package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/examples"
	"github.com/amberhost/amber/stack"
)

// playSuicidal is a host that sees a run through and, at the first suspension
// that it commits, dies by SIGKILL.
func playSuicidal(ctx context.Context, c child) error {
	p := c.processor(func(cfg *stack.Config) {
		cfg.Exclusive, cfg.Sweep = true, 20*time.Millisecond
		cfg.Observe = func(e stack.Event) {
			if e.Kind == stack.EventSuspended {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
	})
	run := uuid.MustParse(c.argument)
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(working) }()
	r, err := p.Wait(ctx, run)
	stop()
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	if !r.Ended() {
		return fmt.Errorf("run %s is still %s", run, r.Status)
	}
	return nil
}

// seeThrough starts hosts that kill themselves, one after another, until the
// run has ended, and returns how many died.
func (d *db) seeThrough(run uuid.UUID) (deaths int) {
	d.t.Helper()
	ctx, stop := context.WithCancel(d.t.Context())
	var releasing sync.WaitGroup
	releasing.Go(func() { d.release(ctx) })
	defer releasing.Wait()
	defer stop()
	for ; deaths < 1000; deaths++ {
		cmd := d.command("suicidal", run.String())
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return deaths
		case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		default:
			d.t.Fatalf("host: %v\n%s\ntables:\n%s", err, out, d.dump())
		}
	}
	d.t.Fatalf("1,000 hosts died; tables:\n%s", d.dump())
	return deaths
}

// release lets go on what is in quarantine, until ctx ends: hosts die here whatever a
// body does that they run.
func (d *db) release(ctx context.Context) {
	for ctx.Err() == nil {
		_, _ = d.pool.Exec(ctx, `update stack_runs set stuck_reason = null where stuck_reason like 'It was being run when hosts were lost%'`)
		time.Sleep(100 * time.Millisecond) // polls other processes
	}
}

// enqueue writes a run that no host has yet.
func (d *db) enqueue(task, input string) uuid.UUID {
	d.t.Helper()
	body, err := d.store.Start(d.t.Context(), stack.Host{}, stack.StartParams{Task: task, Input: json.RawMessage(input)}, false)
	if err != nil {
		d.t.Fatal(err)
	}
	return body.TaskRun
}

// exampleTasks are the example tasks by name.
func exampleTasks(t testing.TB) map[string]string {
	t.Helper()
	tasks := map[string]string{}
	files, err := fs.Glob(examples.Tasks, "tasks/*.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range files {
		code, err := fs.ReadFile(examples.Tasks, f)
		if err != nil {
			t.Fatal(err)
		}
		tasks[strings.TrimSuffix(strings.TrimPrefix(f, "tasks/"), ".js")] = string(code)
	}
	return tasks
}

// TestKilledAtEverySuspension: every example, on hosts that die by SIGKILL
// right after each suspension they commit, ends as an undisturbed run does. The
// loop of 25 calls dies at least 25 times; AMBER_LONG=1 makes it 100.
func TestKilledAtEverySuspension(t *testing.T) {
	t.Parallel()
	tasks := exampleTasks(t)
	calm := newDB(t, tasks)
	p, _ := calm.host(nil)
	killed := newDB(t, tasks)
	deaths := 0
	calls := 25
	if os.Getenv("AMBER_LONG") != "" {
		calls = 100
	}
	quick := map[string]string{"sleeper": `{"ms":50}`, "order-fulfilment": `{"pickUpInMs":50}`, "long-loop": fmt.Sprintf(`{"calls":%d}`, calls)}
	for name := range tasks {
		t.Run(name, func(t *testing.T) {
			calm, killed := calm.in(t), killed.in(t)
			input := "null"
			if in, ok := quick[name]; ok {
				input = in
			}
			want := calm.run(p, name, input)
			id := killed.enqueue(name, input)
			died := killed.seeThrough(id)
			deaths += died
			got, err := killed.store.Run(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != want.Status || timeless(got.Result) != timeless(want.Result) || timeless(got.Error) != timeless(want.Error) {
				t.Errorf("after %d deaths: %s %s %s\nundisturbed: %s %s %s", died, got.Status, got.Result, got.Error, want.Status, want.Result, want.Error)
			}
			if name == "long-loop" && died < calls {
				t.Errorf("the loop of %d calls saw %d deaths", calls, died)
			}
		})
	}
	t.Logf("%d hosts died", deaths)
}

// timeless drops what a result says of the clock: fields that measure time.
func timeless(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	if m, ok := v.(map[string]any); ok {
		for k := range m {
			if strings.Contains(strings.ToLower(k), "elapsed") || strings.HasSuffix(k, "At") {
				delete(m, k)
			}
		}
	}
	out, _ := json.Marshal(v)
	return string(out)
}
