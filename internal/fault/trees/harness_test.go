package trees_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

const testKey = "test:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

var ring = sync.OnceValues(func() (*keys.Ring, error) { return keys.ParseRing(testKey) })

var engine = sync.OnceValues(func() (*vm.Engine, error) {
	r, err := ring()
	if err != nil {
		return nil, err
	}
	return vm.New(context.Background(), vm.Options{Keys: r, CacheDir: filepath.Join(os.TempDir(), fmt.Sprintf("amber-test-cache-%d", os.Getuid()))})
})

// stage is a database with the task, a ledger, and what hosts need.
type stage struct {
	t      *testing.T
	pool   *pgxpool.Pool
	store  *stack.Store
	ledger *ledger.Ledger
	client ledger.Client
}

func newStage(t *testing.T) *stage {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r, err := ring()
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	s := &stage{t: t, pool: pool, store: stack.NewStore(pool, r), ledger: l, client: ledger.Client{URL: server.URL, HTTP: server.Client()}}
	if _, err := s.store.Publish(t.Context(), stack.Task{Name: trees.TaskName, Code: trees.Code}); err != nil {
		t.Fatal(err)
	}
	return s
}

// host runs a host until stop is called or the test ends.
func (s *stage) host(name string, set func(*stack.Config)) (p *stack.Processor, stop func()) {
	s.t.Helper()
	e, err := engine()
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := stack.Config{Store: s.store, Engine: e, HostName: name, Sweep: 50 * time.Millisecond, Grace: 200 * time.Millisecond,
		Services: map[string]service.Service{ledger.Name: s.client}}
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
			s.t.Errorf("processor: %v", err)
		}
	})
	s.t.Cleanup(stop)
	select {
	case <-p.Ready():
	case err := <-done:
		s.t.Fatalf("processor: %v", err)
	}
	return p, stop
}

// start queues a tree for any host.
func (s *stage) start(tree trees.Tree) uuid.UUID {
	s.t.Helper()
	b, err := s.store.Start(s.t.Context(), stack.Host{}, stack.StartParams{Task: trees.TaskName, Input: tree.Input()}, false)
	if err != nil {
		s.t.Fatal(err)
	}
	return b.TaskRun
}

func (s *stage) wait(p *stack.Processor, id uuid.UUID) stack.Run {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute) // runs take turns: the first ends with the last
	defer cancel()
	r, err := p.Wait(ctx, id)
	if err != nil || !r.Ended() {
		s.t.Fatalf("run %s is %s: %v", id, r.Status, err)
	}
	return r
}

// seen reads what is known of every tree, with exact results of completed runs.
func (s *stage) seen() map[string]trees.Seen {
	s.t.Helper()
	rows, err := s.pool.Query(s.t.Context(), `
		select t.id, coalesce((select s.interrupt from public.stack_runs s where s.child_task_run_id = t.id), '') as interrupt, t.input->>'tree' as tree, t.input->>'path' as path, t.status, t.error, t.result,
			exists (select from public.stack_runs s where s.child_task_run_id = t.id and s.status = 'completed') as exact,
			coalesce((select array_agg(message order by l.id) from amber.logs l where l.task_run_id = t.id), '{}') as lines,
			coalesce((select jsonb_agg(jsonb_build_object('ID', s.id, 'Number', s.call_id, 'Service', s.service_name, 'Method', s.method_name, 'Args', s.args)
				order by s.created_at, s.call_id) from public.stack_runs s where s.parent_task_run_id = t.id and s.parent_stack_run_id is not null), '[]') as calls
		from public.task_runs t`)
	if err != nil {
		s.t.Fatal(err)
	}
	type row struct {
		ID                 uuid.UUID
		Tree, Path, Status string
		Interrupt          string
		Error, Result      json.RawMessage
		Calls              json.RawMessage
		Lines              []string
		Exact              bool
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]trees.Seen{}
	for _, r := range found {
		run := trees.Run{Path: r.Path, Status: r.Status, Lines: r.Lines, Error: r.Error, Result: r.Result, Exact: r.Exact, Interrupt: r.Interrupt}
		if err := json.Unmarshal(r.Calls, &run.Calls); err != nil {
			s.t.Fatal(err)
		}
		for i := 1; i < len(run.Calls); i++ { // numbers begin anew with each execution
			run.Calls[i].Execution = run.Calls[i-1].Execution
			if run.Calls[i].Number <= run.Calls[i-1].Number {
				run.Calls[i].Execution++
			}
		}
		if r.Exact {
			exact, err := s.store.Run(s.t.Context(), r.ID)
			if err != nil {
				s.t.Fatal(err)
			}
			run.Result = exact.Result
		}
		seen := all[r.Tree]
		seen.Runs = append(seen.Runs, run)
		all[r.Tree] = seen
	}
	for _, e := range s.ledger.Entries() {
		seen := all[e.Ask.Tree]
		seen.Entries = append(seen.Entries, e)
		all[e.Ask.Tree] = seen
	}
	return all
}
