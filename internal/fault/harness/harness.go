package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fault/audit"
	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/points"
	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// Options say what is played. The zero value is not enough: Dir and Trees are
// required.
type Options struct {
	Dir    string // for everything; made, and left behind
	Data   string // of Postgres, whose account must reach it; "" means below Dir
	Seed   uint64 // of trees and faults; what happens when is a matter of time all the same
	Trees  int
	Hosts  int           // 0 means 3
	Flying int           // trees at once; 0 means 40
	Every  time.Duration // between faults, on average; 0 means 250 ms
	Fsync  bool          // Postgres' own settings, instead of quick ones
	Rest   time.Duration // how long all may take to come to rest after the last fault; 0 means 2 minutes
	Say    io.Writer     // progress; nil discards
}

func (o Options) withDefaults() Options {
	if o.Data == "" {
		o.Data = filepath.Join(o.Dir, "postgres")
	}
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	if o.Flying == 0 {
		o.Flying = 40
	}
	if o.Every == 0 {
		o.Every = 250 * time.Millisecond
	}
	if o.Rest == 0 {
		o.Rest = 2 * time.Minute
	}
	if o.Say == nil {
		o.Say = io.Discard
	}
	return o
}

// play is one run of the harness.
type play struct {
	Options
	rand             *lockedRand
	database         *database
	ledger           *ledger.Ledger
	at               string // URL of the ledger
	secrets          *secrets
	store            *stack.Store
	hosts            []*hostProcess
	points           []string
	report           Report
	mu               sync.Mutex // guards the report's maps
	extras, inserted []extra
	broken           []uuid.UUID                // rows that nobody can go on with
	below            map[string]map[string]bool // bodies below roots that were cancelled alone: by tree, their paths
	deadline         time.Time                  // for all to come to rest; zero while things are spoilt
	ended            atomic.Int64
}

// over says that the time to come to rest is.
func (p *play) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deadline.IsZero() && time.Now().After(p.deadline)
}

// Run plays trees and returns the report. Its error means that the harness itself
// could not go on, or that not everything came to rest in time.
func Run(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	began := time.Now()
	p := &play{Options: o, rand: newRand(o.Seed), report: newReport(o), below: map[string]map[string]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := p.prepare(ctx); err != nil {
		return p.report, err
	}
	defer p.database.stop()
	if err := p.serveLedger(ctx); err != nil {
		return p.report, err
	}
	if err := p.startHosts(ctx); err != nil {
		return p.report, err
	}
	roots, err := p.play(ctx)
	stopErr := p.stopHosts()
	if err != nil {
		return p.report, err
	}
	if err := p.judge(ctx, roots); err != nil {
		return p.report, err
	}
	p.report.Took = time.Since(began)
	return p.report, stopErr
}

// prepare builds the hosts and makes the database.
func (p *play) prepare(ctx context.Context) (err error) {
	if p.Dir, err = filepath.Abs(p.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return err
	}
	module, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Say, "building hosts with failpoints")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "failpoints", "-o", p.program(), "./cmd/amber")
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build hosts: %w\n%s", err, out)
	}
	all, problems, err := points.List(filepath.Join(module, "stack"))
	if err != nil || len(problems) > 0 {
		return fmt.Errorf("points: %w %s", err, strings.Join(problems, "\n"))
	}
	p.points = append(slices.DeleteFunc(all, func(point string) bool { return slices.Contains(elsewhere, point) }), "call", "called")
	if p.secrets, err = newSecrets(); err != nil {
		return err
	}
	ring, err := keys.ParseRing(p.secrets.whole())
	if err != nil {
		return err
	}
	if p.database, err = startDatabase(ctx, p.Data, p.Fsync); err != nil {
		return err
	}
	if err := p.migrate(ctx); err != nil {
		return errors.Join(err, p.database.stop())
	}
	p.store = stack.NewStore(p.database.pool, ring)
	if _, err := p.store.Publish(ctx, stack.Task{Name: trees.TaskName, Code: trees.Code}); err != nil {
		return errors.Join(err, p.database.stop())
	}
	if err := p.publishExtras(ctx); err != nil {
		return errors.Join(err, p.database.stop())
	}
	return nil
}

// elsewhere are points that no host comes to that shares its database.
var elsewhere = []string{"statement Register: expire"}

func (p *play) program() string { return filepath.Join(p.Dir, "amber") }

// migrate makes the tables, and the history that the auditor reads.
func (p *play) migrate(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, p.program(), "migrate")
	cmd.Env = p.env(0, p.database.where())
	cmd.Dir = p.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w\n%s", err, out)
	}
	return audit.Install(ctx, p.database.pool)
}

// moduleDir is the directory of the source.
func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/amberhost/amber").Output()
	if err != nil {
		return "", fmt.Errorf("find the source: run this within it: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (p *play) serveLedger(ctx context.Context) (err error) {
	if p.ledger, err = ledger.Open(filepath.Join(p.Dir, "ledger.jsonl")); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.at = "http://" + l.Addr().String()
	go func() { _ = p.ledger.Serve(ctx, l) }()
	return nil
}

// root is a tree and its run.
type root struct {
	tree trees.Tree
	run  uuid.UUID
	fate fate
}

// play has all trees played amid faults, and waits until all are at rest.
func (p *play) play(ctx context.Context) ([]root, error) {
	faults, calm := context.WithCancel(ctx)
	defer calm()
	var spoiling sync.WaitGroup
	spoiling.Go(func() { p.spoil(faults) })
	spoiling.Go(func() { p.visit(faults) })
	spoiling.Go(func() { p.look(faults) })
	spoiling.Go(func() { p.hunt(faults) })
	resting, wake := context.WithCancel(ctx)
	defer wake()
	go p.release(resting)
	roots := make([]root, p.Trees)
	next := make(chan int)
	var flying sync.WaitGroup
	errs := make(chan error, p.Flying)
	for range min(p.Flying, p.Trees) {
		flying.Go(func() {
			for i := range next {
				roots[i] = newRoot(p.Seed*1_000_003 + uint64(i))
				if err := p.playTree(ctx, &roots[i]); err != nil {
					errs <- fmt.Errorf("tree %s, run %s: %w", roots[i].tree.ID, roots[i].run, err)
					return
				}
			}
		})
	}
	told, rotated := time.Now(), 0
	var err error
feed:
	for i := range p.Trees {
		select {
		case next <- i:
		case err = <-errs:
			break feed
		case <-ctx.Done():
			err = ctx.Err()
			break feed
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			if p.secrets.know(3 + (rings-2)*i/p.Trees) {
				p.count(p.report.Faults, "a new key")
				rotated++
				turn := rotated
				spoiling.Go(func() { p.renew(faults, turn) })
			}
			fmt.Fprintf(p.Say, "%d of %d trees, %d effects, %d deaths at points\n", p.ended.Load(), p.Trees, len(p.ledger.Entries()), p.deaths())
		}
	}
	close(next)
	if err == nil { // the last ones end amid faults too, as far as they do
		done := make(chan struct{})
		go func() { flying.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(p.Rest / 4):
		}
	}
	calm()
	spoiling.Wait()
	p.heal()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.deadline = time.Now().Add(p.Rest)
	p.mu.Unlock()
	flying.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	return roots, p.rest(ctx)
}

// playTree starts a tree, cancels it if that is its fate, and waits until it has ended.
func (p *play) playTree(ctx context.Context, r *root) error {
	if err := p.start(ctx, *r); err != nil {
		return err
	}
	p.interrupt(ctx, r)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		var ended bool
		err := p.database.pool.QueryRow(ctx, `select status in ('completed', 'failed', 'cancelled') from public.task_runs where id = $1`, r.run).Scan(&ended)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && ended:
			p.ended.Add(1)
			return nil
		case err != nil && !stack.Unavailable(err):
			return err
		case p.over():
			return nil // the auditor says what is wrong with it
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// start starts a tree's run, by a client of a host or with SQL, as often as it
// takes to be sure that it was started once.
func (p *play) start(ctx context.Context, r root) error {
	byClient := p.rand.IntN(2) == 0 && !r.fate.special()
	params := r.fate.params
	params.Task, params.Input, params.ID = trees.TaskName, r.tree.Input(), r.run
	for try := 0; ctx.Err() == nil; try++ {
		var err error
		if byClient && try < 20 {
			err = p.ask(ctx, http.MethodPost, "/functions/v1/quickjs", map[string]any{"taskCode": trees.Code, "taskName": trees.TaskName,
				"taskRunId": r.run, "taskInput": r.tree, "input": r.tree}, "0")
		} else {
			_, err = p.store.Start(ctx, stack.Host{}, params, false)
		}
		if err == nil {
			return nil
		}
		if _, err := p.store.Run(ctx, r.run); err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// lockedRand is a source of chance for several goroutines.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newRand(seed uint64) *lockedRand { return &lockedRand{r: rand.New(rand.NewPCG(seed, 2))} }

func (l *lockedRand) IntN(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

// around is a time of that length on average.
func (l *lockedRand) around(d time.Duration) time.Duration {
	return time.Duration(l.IntN(int(2*d/time.Millisecond)+1)) * time.Millisecond
}
