package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// testKey is the ring of every test process of this package, so that a process
// can open what another one sealed.
const testKey = "test:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func ring(t testing.TB) *keys.Ring {
	t.Helper()
	r, err := keys.ParseRing(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var engine = sync.OnceValues(func() (*vm.Engine, error) {
	r, err := keys.ParseRing(testKey)
	if err != nil {
		return nil, err
	}
	return newEngine(r)
})

// engineCache keeps compiled code for all processes of these tests.
func engineCache() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("amber-test-cache-%d", os.Getuid()))
}

func newEngine(r *keys.Ring) (*vm.Engine, error) {
	dir := engineCache()
	// Loops are to be stopped by what is tested, not by their limit.
	return vm.New(context.Background(), vm.Options{CacheDir: dir, Keys: r, Limits: vm.Limits{CPU: time.Hour, RunCPU: time.Hour}})
}

// db is a database with tasks in it and the store on top.
type db struct {
	t     testing.TB
	dsn   string
	pool  *pgxpool.Pool
	store *stack.Store
	poll  bool // nobody can listen through dsn
}

// in is the same database for a subtest.
func (d *db) in(t testing.TB) *db {
	c := *d
	c.t = t
	return &c
}

func newDB(t testing.TB, tasks map[string]string) *db {
	t.Helper()
	d := openDB(t, pgtest.New(t))
	d.publish(tasks)
	return d
}

func (d *db) publish(tasks map[string]string) {
	d.t.Helper()
	for name, code := range tasks {
		if _, err := d.store.Publish(d.t.Context(), stack.Task{Name: name, Code: code}); err != nil {
			d.t.Fatal(err)
		}
	}
}

func openDB(t testing.TB, dsn string) *db {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	stack.UUIDs(cfg)
	if !cannotListen(dsn) {
		stack.PlanOnce(cfg)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &db{t: t, dsn: dsn, pool: pool, store: stack.NewStore(pool, ring(t)), poll: cannotListen(dsn)}
}

// cannotListen reports whether dsn goes through a transaction pooler: pgx reads
// from it too that no statement may have a name there.
func cannotListen(dsn string) bool {
	return strings.Contains(dsn, "default_query_exec_mode=cache_describe")
}

// host runs a processor until the returned stop is called (or the test ends).
func (d *db) host(set func(*stack.Config)) (p *stack.Processor, stop func()) {
	d.t.Helper()
	e, err := engine()
	if err != nil {
		d.t.Fatal(err)
	}
	cfg := stack.Config{Store: d.store, Engine: e, HostName: "test", Sweep: 50 * time.Millisecond, Poll: d.poll,
		Services: map[string]service.Service{"echo": echo{}}}
	if set != nil {
		set(&cfg)
	}
	p = stack.NewProcessor(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("processor: %v", err)
		}
	})
	d.t.Cleanup(stop)
	select {
	case <-p.Ready():
	case err := <-done:
		d.t.Fatalf("processor: %v", err)
	}
	return p, stop
}

// run starts a task and waits for its end.
func (d *db) run(p *stack.Processor, task, input string) stack.Run {
	d.t.Helper()
	r, err := p.Start(d.t.Context(), stack.StartParams{Task: task, Input: json.RawMessage(input)})
	if err != nil {
		d.t.Fatalf("start %s: %v", task, err)
	}
	return d.wait(p, r.ID)
}

func (d *db) wait(p *stack.Processor, id uuid.UUID) stack.Run {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Minute)
	defer cancel()
	r, err := p.Wait(ctx, id)
	if err != nil {
		d.t.Fatal(err)
	}
	if !r.Ended() {
		d.t.Fatalf("run %s of %s is still %s; its tree:\n%s", r.ID, r.TaskName, r.Status, d.dump())
	}
	return r
}

// dump shows the tables, for a failing test.
func (d *db) dump() string {
	var out string
	err := d.pool.QueryRow(context.Background(), `
		select string_agg(concat_ws(' ', id, 'parent', parent_stack_run_id, service_name, method_name, status, 'call', call_id,
			'sequence', sequence, 'delivered', delivered, 'claimed', claimed_by, stuck_reason, error), E'\n' order by created_at, id)
		from public.stack_runs where status not in ('completed', 'failed', 'cancelled') or not delivered`).Scan(&out)
	if err != nil {
		return err.Error()
	}
	return out
}

// count is the number that a query returns.
func (d *db) count(sql string, args ...any) int {
	d.t.Helper()
	var n int
	if err := d.pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// exec runs a statement, as a client with SQL would.
func (d *db) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.pool.Exec(context.Background(), sql, args...); err != nil {
		d.t.Fatal(err)
	}
}

// eventually polls until the condition holds.
func (d *db) eventually(what string, holds func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			d.t.Fatalf("never: %s; tables:\n%s", what, d.dump())
		}
		time.Sleep(5 * time.Millisecond) // polls another process: Postgres
	}
}

// result fails the test unless the run completed with this JSON.
func wantResult(t testing.TB, r stack.Run, want string) {
	t.Helper()
	if r.Status != stack.StatusCompleted {
		t.Fatalf("run of %s is %s: %s", r.TaskName, r.Status, r.Error)
	}
	var got, w any
	if json.Unmarshal(r.Result, &got) != nil || json.Unmarshal([]byte(want), &w) != nil || fmt.Sprint(got) != fmt.Sprint(w) {
		t.Fatalf("result of %s is %s, want %s", r.TaskName, r.Result, want)
	}
}

// wantError fails the test unless the run failed with this code, and returns the error.
func wantError(t testing.TB, r stack.Run, code string) service.Error {
	t.Helper()
	var e service.Error
	if r.Status != stack.StatusFailed || json.Unmarshal(r.Error, &e) != nil {
		t.Fatalf("run of %s is %s, error %s, result %s; want failed", r.TaskName, r.Status, r.Error, r.Result)
	}
	if e.Code != code {
		t.Fatalf("error of %s is %s, want code %s", r.TaskName, r.Error, code)
	}
	return e
}

// call is tools.tasks.execute('pair', null), or tools.<name>.value(1).
func call(name string) service.Call {
	if name == "tasks" {
		return service.Call{Service: name, Steps: service.Path("execute", []json.RawMessage{json.RawMessage(`"pair"`), json.RawMessage(`null`)})}
	}
	return service.Call{Service: name, Steps: service.Path("value", []json.RawMessage{json.RawMessage(`1`)})}
}

// echo answers value(x) with x, fail(text) with an error, raw(text) with the
// text itself as JSON, and panics on panic().
type echo struct{}

func (echo) Call(_ context.Context, c service.Call, _ service.Meta) (json.RawMessage, error) {
	var arg json.RawMessage
	if args := c.Args(); len(args) > 0 {
		arg = args[0]
	}
	var text string
	_ = json.Unmarshal(arg, &text)
	switch c.Method() {
	case "value":
		return arg, nil
	case "fail":
		return nil, fmt.Errorf("%s", text)
	case "raw":
		return json.RawMessage(text), nil
	case "panic":
		panic("echo panics")
	}
	return nil, service.Errorf(service.CodeUnknownMethod, "echo has no %s", c.Method())
}
