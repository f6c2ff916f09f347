package trees_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/stack"
)

// TestInterrupted: trees that are cancelled at any moment, and those that have only
// so much time, see what they may see, and end as they must.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p, _ := s.host("only", nil)
	var all []trees.Tree
	var ids []uuid.UUID
	cancelled := func(i int) bool { return i%3 > 0 }
	for i := range 72 {
		tree := trees.Generate(5000+uint64(i), trees.Options{MS: 5, Hangs: true})
		params := stack.StartParams{Task: trees.TaskName, Input: tree.Input()}
		if !cancelled(i) {
			params.Timeout = time.Duration(5*i) * time.Millisecond
			params.Timeout = max(params.Timeout, time.Millisecond)
		}
		b, err := s.store.Start(t.Context(), stack.Host{}, params, false)
		if err != nil {
			t.Fatal(err)
		}
		all, ids = append(all, tree), append(ids, b.TaskRun)
		if i%8 == 7 { // those before it have got somewhere
			time.Sleep(time.Duration(i) * time.Millisecond / 4) // when they are cancelled is to differ
			for j := i - 7; j <= i; j++ {
				for n := 0; cancelled(j) && n <= j%2; n++ {
					if _, err := p.Cancel(t.Context(), ids[j]); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for i, id := range ids {
		if cancelled(i) {
			if _, err := p.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		s.wait(p, id)
	}
	seen := s.seen()
	kinds := map[string]int{}
	for i, tree := range all {
		tseen := seen[tree.ID]
		tseen.Cancelled, tseen.Timed = cancelled(i), !cancelled(i)
		check(t, tree, tseen)
		for _, r := range tseen.Runs {
			if r.Interrupt == "" {
				continue
			}
			kinds[r.Interrupt]++
			if len(r.Lines) > 0 {
				kinds[r.Interrupt+" seen"]++
			}
			if r.Path != "0" { // it may have a timeout of its own
				continue
			}
			if nobody := (trees.Seen{Runs: tseen.Runs, Entries: tseen.Entries}); len(tree.Check(nobody).Complaints) == 0 {
				t.Errorf("%s: no complaint about an interruption by nobody", tree.ID)
			}
			for _, status := range []string{"completed", "failed", "cancelled"} {
				if status == r.Status {
					continue
				}
				other := tseen
				other.Runs = slices.Clone(tseen.Runs)
				other.Runs[slices.IndexFunc(other.Runs, func(r trees.Run) bool { return r.Path == "0" })].Status = status
				if len(tree.Check(other).Complaints) == 0 {
					t.Errorf("%s: no complaint about a run that is %s", tree.ID, status)
				}
			}
		}
	}
	for _, kind := range []string{"cancel", "cancel seen", "timeout", "timeout seen"} {
		if kinds[kind] < 5 {
			t.Errorf("%d bodies are %s: too few", kinds[kind], kind)
		}
	}
}

// hangs is a tree whose one step ends when it is interrupted.
var hangs = trees.Tree{ID: "hangs", Path: "0", Body: []trees.Step{
	{Op: trees.OpHang, Of: []trees.Step{{Op: trees.OpSleep, MS: 3_600_000}, {Op: trees.OpLedger, Method: ledger.Once}}}}}

// TestTidiesUp: the call in finally is made, and its answer seen, after the error.
func TestTidiesUp(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p, _ := s.host("only", func(c *stack.Config) { c.Grace = time.Minute })
	id := s.start(hangs)
	deadline := time.Now().Add(2 * time.Minute)
	for n := 0; n == 0 && time.Now().Before(deadline); {
		if err := s.pool.QueryRow(t.Context(), `select count(*) from public.stack_runs where status = 'sleeping'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.wait(p, id)
	seen := s.seen()[hangs.ID]
	seen.Cancelled = true
	check(t, hangs, seen)
	lines := strings.Join(runOf(seen, "0").Lines, "\n")
	if want := "The run was cancelled. Its open calls were called off: tools.sleep. It has 60 s to tidy up.\n@0.0.0 ! CANCELLED: The run was cancelled.\n@0.0.1 = {\"n\":1,\"path\":\"0.0.1\",\"value\":null}\n@0.0 ! CANCELLED: The run was cancelled."; lines != want {
		t.Errorf("lines\n%s\nwant\n%s", lines, want)
	}
	for what, line := range map[string]string{
		"another error": "@0.0.0 ! CANCELLED: because.", "a value": "@0.0.0 = 1", "another interruption": "@0.0.1 ! CANCELLED: The run was cancelled.",
	} {
		other := seen
		other.Runs = slices.Clone(seen.Runs)
		r := &other.Runs[0]
		r.Lines = slices.Clone(r.Lines)
		at, _, _ := strings.Cut(line, " ")
		r.Lines[slices.IndexFunc(r.Lines, func(l string) bool { return strings.HasPrefix(l, at+" ") })] = line
		if len(hangs.Check(other).Complaints) == 0 {
			t.Errorf("no complaint about %s", what)
		}
	}
}

// TestTriesAgain: a body that fails begins anew, as often as its caller says, and
// what it is told of is told by its lines, one execution after another.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	turn := trees.Step{Op: trees.OpLedger, Method: ledger.Each, Turn: true, Fails: 2}
	again := func(retries int, final bool) trees.Step {
		turn := turn
		turn.Final = final
		return trees.Step{Op: trees.OpChild, Catch: true, With: &trees.With{Retries: &retries, Backoff: 1},
			Body: []trees.Step{{Op: trees.OpLedger, Method: ledger.Once, Fail: "BROKE", Catch: true}, turn, {Op: trees.OpSleep}}}
	}
	tree := trees.Tree{ID: "again", Path: "0", Body: []trees.Step{again(2, false), again(1, false), again(2, true), again(0, false)}}
	seen := play(t, []trees.Tree{tree})[tree.ID]
	check(t, tree, seen)
	lines := strings.Join(runOf(seen, "0").Lines, "\n")
	for _, want := range []string{"@0.0 = ", "@0.1 ! AGAIN: execution 2 of 0.1", "@0.2 ! FINAL: execution 1 of 0.2", "@0.3 ! AGAIN: execution 1 of 0.3"} {
		if !strings.Contains(lines, want) {
			t.Errorf("no line %q:\n%s", want, lines)
		}
	}
	if n := len(runOf(seen, "0.0").Lines); n != 8 {
		t.Errorf("%d lines of three executions, want 2, 2 and 4", n)
	}
	alter(t, tree, seen, true)
	for i := 1; i < len(tree.Body); i++ {
		fewer := tree
		fewer.Body = slices.Clone(tree.Body)
		fewer.Body[i] = again(4, false)
		if len(fewer.Check(seen).Complaints) == 0 {
			t.Errorf("no complaint about tries that are missing at 0.%d", i)
		}
	}
}

// TestInterruptedBelow: of a tree that nobody interrupts, bodies are cancelled alone:
// their callers see it, and go on.
func TestInterruptedBelow(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p, _ := s.host("only", nil)
	hang, three := hangs.Body[0], 3
	hang.Of = slices.Clone(hang.Of)
	tree := trees.Tree{ID: "below", Path: "0", Body: []trees.Step{
		{Op: trees.OpChild, Catch: true, Body: []trees.Step{hang}},
		{Op: trees.OpChild, Catch: true, With: &trees.With{Retries: &three, Backoff: 1}, Body: []trees.Step{{Op: trees.OpChild, Body: []trees.Step{hang}}}},
		{Op: trees.OpLedger, Method: ledger.Once},
	}}
	id := s.start(tree)
	below := map[string]bool{"0.0": true, "0.1.0": true}
	for _, path := range []string{"0.0", "0.1.0"} {
		var run uuid.UUID
		for deadline := time.Now().Add(2 * time.Minute); run == uuid.Nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) { // polls hosts
			_ = s.pool.QueryRow(t.Context(), `select t.id from public.task_runs t join public.stack_runs s on s.parent_task_run_id = t.id
				where t.input->>'path' = $1 and s.service_name = 'sleep'`, path).Scan(&run) // uuid.Nil until there is one
		}
		if _, err := p.Cancel(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	s.wait(p, id)
	seen := s.seen()[tree.ID]
	if nobody := tree.Check(seen).Complaints; len(nobody) == 0 {
		t.Error("no complaint about an interruption by nobody")
	}
	seen.Below = below
	check(t, tree, seen)
	if root := runOf(seen, "0"); root.Status != "completed" || root.Interrupt != "" {
		t.Errorf("the root is %s, interrupted by %q", root.Status, root.Interrupt)
	}
	if n := len(runOf(seen, "0.1").Lines); n != 1 {
		t.Errorf("%d lines of a body whose child was cancelled, want 1: what is cancelled is not tried again", n)
	}
}
