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
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/examples"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// The test binary is also a host that kills itself: started with hostEnv set it
// works on that database and, at the first suspension it commits, dies by
// SIGKILL; when the run has ended it exits with 0.
const (
	hostEnv = "AMBER_TEST_HOST" // dsn
	runEnv  = "AMBER_TEST_RUN"  // id of the run to see through
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(hostEnv); dsn != "" {
		if err := suicidalHost(dsn, uuid.MustParse(os.Getenv(runEnv))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func suicidalHost(dsn string, run uuid.UUID) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	e, err := engine()
	if err != nil {
		return err
	}
	ring, err := keys.ParseRing(testKey)
	if err != nil {
		return err
	}
	p := stack.NewProcessor(stack.Config{Store: stack.NewStore(pool, ring), Engine: e, HostName: "suicidal", Exclusive: true,
		Sweep: 20 * time.Millisecond, Services: map[string]service.Service{"echo": echo{}},
		Observe: func(e stack.Event) {
			if e.Kind == stack.EventSuspended {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}})
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
	exe, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	for ; deaths < 1000; deaths++ {
		cmd := exec.CommandContext(d.t.Context(), exe)
		cmd.Env = append(os.Environ(), hostEnv+"="+d.dsn, runEnv+"="+run.String())
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
// loop of 100 calls dies at least 100 times.
func TestKilledAtEverySuspension(t *testing.T) {
	t.Parallel()
	tasks := exampleTasks(t)
	calm := newDB(t, tasks)
	p, _ := calm.host(nil)
	killed := newDB(t, tasks)
	deaths := 0
	quick := map[string]string{"sleeper": `{"ms":50}`, "order-fulfilment": `{"pickUpInMs":50}`}
	for name := range tasks {
		t.Run(name, func(t *testing.T) {
			calm, killed := &db{t: t, dsn: calm.dsn, pool: calm.pool, store: calm.store}, &db{t: t, dsn: killed.dsn, pool: killed.pool, store: killed.store}
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
			if name == "long-loop" && died < 100 {
				t.Errorf("the loop of 100 calls saw %d deaths", died)
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
