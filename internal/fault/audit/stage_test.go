package audit_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/fault/audit"
	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// stage is a database with a history, the task, a ledger, and what hosts need.
type stage struct {
	t      *testing.T
	pool   *pgxpool.Pool
	store  *stack.Store
	engine *vm.Engine
	ledger *ledger.Ledger
	client ledger.Client
	cfg    audit.Config // what to audit by: the trees started, the host's key
	roots  map[string]uuid.UUID
}

func newStage(t *testing.T) *stage {
	t.Helper()
	entry, err := keys.NewKey("test")
	if err != nil {
		t.Fatal(err)
	}
	_, encoded, _ := strings.Cut(entry, ":")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.ParseRing(entry)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := audit.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	engine, err := vm.New(context.Background(), vm.Options{Keys: ring, CacheDir: filepath.Join(os.TempDir(), fmt.Sprintf("amber-test-cache-%d", os.Getuid()))})
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	s := &stage{t: t, pool: pool, store: stack.NewStore(pool, ring), engine: engine, ledger: l,
		client: ledger.Client{URL: server.URL, HTTP: server.Client()}, roots: map[string]uuid.UUID{},
		cfg: audit.Config{Rest: true, Results: map[string]json.RawMessage{}, Secrets: map[string][]byte{"encryption key": key}}}
	if _, err := s.store.Publish(t.Context(), stack.Task{Name: trees.TaskName, Code: trees.Code}); err != nil {
		t.Fatal(err)
	}
	return s
}

// start queues a tree for any host.
func (s *stage) start(tree trees.Tree) {
	s.t.Helper()
	b, err := s.store.Start(s.t.Context(), stack.Host{}, stack.StartParams{Task: trees.TaskName, Input: tree.Input()}, false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.roots[tree.ID] = b.TaskRun
	s.cfg.Trees = append(s.cfg.Trees, tree)
}

// host runs a host until stop is called. It does not wait for what is in flight.
func (s *stage) host() (p *stack.Processor, stop func()) {
	s.t.Helper()
	p = stack.NewProcessor(stack.Config{Store: s.store, Engine: s.engine, HostName: "test", Sweep: 50 * time.Millisecond, Grace: 200 * time.Millisecond, Drain: -1,
		Services: map[string]service.Service{ledger.Name: s.client}})
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
	return p, stop
}

// until polls until a query returns a number that is large enough.
func (s *stage) until(what, sql string, want int) {
	s.t.Helper()
	s.poll(what, want, func() (n int) {
		if err := s.pool.QueryRow(s.t.Context(), sql).Scan(&n); err != nil {
			s.t.Fatal(err)
		}
		return n
	})
}

// asked polls until a tree has had so many effects.
func (s *stage) asked(tree string, effects int) {
	s.t.Helper()
	s.poll("effects of "+tree, effects, func() (n int) {
		for _, e := range s.ledger.Entries() {
			if e.Ask.Tree == tree {
				n++
			}
		}
		return n
	})
}

func (s *stage) poll(what string, want int, count func() int) {
	s.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		n := count()
		if n >= want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: %d, want %d", what, n, want)
		}
		time.Sleep(2 * time.Millisecond) // polls Postgres, or what hosts do
	}
}

// finish waits for the ends of all trees but those named, and notes the exact results.
func (s *stage) finish(p *stack.Processor, but string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	for tree, id := range s.roots {
		if tree == but {
			continue
		}
		run, err := p.Wait(ctx, id)
		if err != nil || !run.Ended() {
			s.t.Fatalf("%s is %s: %v", tree, run.Status, err)
		}
		if run.Status == stack.StatusCompleted {
			s.cfg.Results[tree] = run.Result
		}
	}
	s.cfg.Entries = s.ledger.Entries()
}

// audit audits, within a transaction that is rolled back, what plant made of things.
func (s *stage) audit(plant func(tx pgx.Tx, cfg *audit.Config)) audit.Report {
	s.t.Helper()
	tx, err := s.pool.Begin(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(context.Background()); err != nil {
			s.t.Error(err)
		}
	}()
	cfg := s.cfg
	if plant != nil {
		plant(tx, &cfg)
	}
	report, err := audit.Audit(s.t.Context(), tx, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}
