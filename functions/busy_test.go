package functions_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// fill keeps an engine busy with two endless tasks, one of which waits for the
// other, until the returned function is called, which returns when both are gone.
func fill(t *testing.T, e *vm.Engine) (empty func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() {
			_, err := e.Start(ctx, vm.StartParams{Name: "loop", Code: `module.exports = () => { for (;;); }`})
			errs <- err
		}()
	}
	if err := <-errs; !errors.Is(err, vm.ErrBusy) { // the one that came when one computed and one waited
		t.Fatal(err)
	}
	return func() {
		cancel()
		for range cap(errs) - 1 {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}
}

// TestBusyEngine: who sends code to a host on which too many tasks wait for their
// turn is told to come back, and nothing has changed; later it is taken.
func TestBusyEngine(t *testing.T) {
	t.Parallel()
	ring, err := keys.ParseRing(testKey)
	if err != nil {
		t.Fatal(err)
	}
	// With a byte of memory for all, the second waits until the first has ended.
	e, err := vm.New(t.Context(), vm.Options{CacheDir: engineCache(), Keys: ring, Concurrency: 1, Queue: 1, Memory: 1,
		Limits: vm.Limits{CPU: time.Hour, RunCPU: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	d := newDatabase(t)
	s := d.serve(t, func(deps *functions.Deps) { deps.Engine = e }, true)
	const (
		publish = `{"name":"fresh","code":"module.exports = () => 1"}`
		given   = `{"code":"module.exports = () => 2"}`
		role    = "Role: service_role"
		gives   = "Retry-After: 1\nContent-Type: application/json"
		busy    = `{"error":"Too many tasks wait for their turn on this host. Nothing was changed; try again in a moment.","code":"BUSY"}`
	)
	empty := fill(t, e)
	s.exchange(t, []row{
		{name: "publish", send: "POST /publish", header: role, body: publish, status: 503, gives: gives, want: busy},
		{name: "code that is given", send: "POST /quickjs", header: role, body: given, status: 503, gives: gives, want: busy},
		{name: "a run by name, on another engine", send: "POST /quickjs", body: `{"taskName":"echo","directExecution":true}`, status: 200, want: `{"...":0}`},
	})
	empty()
	var published, runs int
	if err := d.pool.QueryRow(t.Context(), `select (select count(*) from task_functions where name = 'fresh'), count(*) from task_runs`).Scan(&published, &runs); err != nil {
		t.Fatal(err)
	}
	if published != 0 || runs != 1 {
		t.Errorf("%d tasks were published and %d runs started", published, runs)
	}
	s.exchange(t, []row{
		{name: "publish", send: "POST /publish", header: role, body: publish, status: 200, want: `{"name":"fresh","change":"created"}`},
		{name: "code that is given", send: "POST /quickjs", header: role, body: given, status: 200, want: `{"result":2,"...":0}`},
	})
}
