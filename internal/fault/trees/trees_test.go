package trees_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/stack"
)

// play plays trees on one host and returns what was seen of each.
func play(t *testing.T, all []trees.Tree) map[string]trees.Seen {
	t.Helper()
	s := newStage(t)
	p, _ := s.host("only", nil)
	var ids []uuid.UUID
	for _, tree := range all {
		ids = append(ids, s.start(tree))
	}
	for _, id := range ids {
		s.wait(p, id)
	}
	return s.seen()
}

func check(t *testing.T, tree trees.Tree, seen trees.Seen) {
	t.Helper()
	for _, c := range tree.Check(seen).Complaints {
		r := runOf(seen, c.Path)
		t.Errorf("%s: %s\nrun %s is %s %s\n%s\ninput %s", tree.ID, c, r.Path, r.Status, r.Error, strings.Join(r.Lines, "\n"), tree.Input())
	}
}

// runOf is the run that a path leads into.
func runOf(s trees.Seen, path string) (found trees.Run) {
	for _, r := range s.Runs {
		if len(r.Path) > len(found.Path) && (r.Path == path || strings.HasPrefix(path, r.Path+".")) {
			found = r
		}
	}
	return found
}

// TestPlayed: the task and the oracle agree on every tree, and about whatever is
// altered in what was seen the oracle complains.
func TestPlayed(t *testing.T) {
	t.Parallel()
	var all []trees.Tree
	for seed := range uint64(200) {
		all = append(all, trees.Generate(seed, trees.Options{MS: 5, Determined: seed%3 == 0}))
	}
	seen := play(t, all)
	for i, tree := range all {
		check(t, tree, seen[tree.ID])
		if i%8 == 0 { // some of each kind
			alter(t, tree, seen[tree.ID], i%3 == 0)
		}
	}
}

// alter alters what was seen in every way that must not pass.
func alter(t *testing.T, tree trees.Tree, seen trees.Seen, determined bool) {
	t.Helper()
	wrong := func(what string, altered trees.Seen) {
		t.Helper()
		if len(tree.Check(altered).Complaints) == 0 {
			t.Errorf("%s: no complaint about %s", tree.ID, what)
		}
	}
	with := func(i int, set func(*trees.Run)) trees.Seen {
		s := trees.Seen{Runs: slices.Clone(seen.Runs), Entries: seen.Entries}
		r := &s.Runs[i]
		r.Lines, r.Calls = slices.Clone(r.Lines), slices.Clone(r.Calls)
		set(r)
		return s
	}
	for i, run := range seen.Runs {
		for j, line := range run.Lines {
			if before, after, ok := strings.Cut(line, " was tried "); ok && !strings.HasPrefix(line, "@") {
				_, after, _ = strings.Cut(after, " times ")
				wrong("another number in "+line, with(i, func(r *trees.Run) { r.Lines[j] = before + " was tried 102 times " + after }))
				wrong("another call in "+line, with(i, func(r *trees.Run) { r.Lines[j] = "x" + line }))
				continue
			}
			if !strings.HasPrefix(line, "@") {
				wrong("a second word of the host: "+line, with(i, func(r *trees.Run) {
					r.Lines = append(append(r.Lines, "The task ended as it likes."), slices.Repeat([]string{line}, 5)...)
				}))
				continue
			}
			path, _, _ := strings.Cut(line, " ")
			wrong("another text in "+line, with(i, func(r *trees.Run) { r.Lines[j] = path + " = 1" }))
			wrong("two of "+line, with(i, func(r *trees.Run) { r.Lines = slices.Insert(r.Lines, j, line) }))
			if determined {
				wrong("no "+line, with(i, func(r *trees.Run) { r.Lines = slices.Delete(r.Lines, j, j+1) }))
			}
			if j > 0 && follows(run.Path, run.Lines[j-1], line) {
				wrong("too early: "+line, with(i, func(r *trees.Run) { r.Lines[j-1], r.Lines[j] = r.Lines[j], r.Lines[j-1] }))
			}
		}
		for j, call := range run.Calls {
			if len(run.Calls) > 1 || len(run.Lines) > 0 { // else nothing of it may have been committed
				wrong("no call "+call.String(), with(i, func(r *trees.Run) { r.Calls = slices.Delete(r.Calls, j, j+1) }))
			}
			wrong("a number of "+call.String(), with(i, func(r *trees.Run) { r.Calls[j].Number++ }))
			wrong("two of "+call.String(), with(i, func(r *trees.Run) { r.Calls = append(r.Calls, call) }))
			if j > 0 && run.Calls[j-1].String() != call.String() {
				wrong("too early: "+call.String(), with(i, func(r *trees.Run) {
					r.Calls[j-1], r.Calls[j] = r.Calls[j], r.Calls[j-1]
					r.Calls[j-1].Number, r.Calls[j].Number = r.Calls[j].Number, r.Calls[j-1].Number
				}))
			}
		}
		switch run.Status {
		case "completed":
			wrong("a result", with(i, func(r *trees.Run) { r.Result = slices.Concat([]byte(" "), r.Result) }))
			wrong("a result in jsonb", with(i, func(r *trees.Run) { r.Result, r.Exact = json.RawMessage(`{"path":"0"}`), false }))
			wrong("a failure", with(i, func(r *trees.Run) { r.Status, r.Error = "failed", json.RawMessage(`{"code":"X"}`) }))
			wrong("a run without an end", with(i, func(r *trees.Run) { r.Status = "suspended" }))
		case "failed":
			wrong("an error", with(i, func(r *trees.Run) { r.Error = json.RawMessage(`{"code":"X","message":"x"}`) }))
			wrong("a success", with(i, func(r *trees.Run) { r.Status = "completed" }))
		}
		wrong("two runs of a body", trees.Seen{Runs: append(slices.Clone(seen.Runs), run), Entries: seen.Entries})
	}
	wrong("no run", trees.Seen{Entries: seen.Entries})
	wrong("a run of nothing", trees.Seen{Runs: append(slices.Clone(seen.Runs), trees.Run{Path: "1"}), Entries: seen.Entries})
	wrong("an effect of nothing", trees.Seen{Runs: seen.Runs, Entries: append(slices.Clone(seen.Entries), ledger.Entry{Ask: ledger.Ask{Path: "1"}})})
	for _, took := range tree.Check(seen).Took {
		if took.Number == 0 {
			continue
		}
		wrong("no effect at "+took.Path, trees.Seen{Runs: seen.Runs, Entries: slices.DeleteFunc(slices.Clone(seen.Entries),
			func(e ledger.Entry) bool { return e.Ask.Path == took.Path })})
	}
}

// follows reports whether a line can only come after the one that it comes
// after: a step after a branch of its own, or after the step before it.
func follows(body, before, line string) bool {
	b, _, _ := strings.Cut(before, " ")
	l, _, _ := strings.Cut(line, " ")
	top := func(path string) bool {
		rest, ok := strings.CutPrefix(path, "@"+body+".")
		return ok && !strings.Contains(rest, ".")
	}
	return strings.HasPrefix(b, l+".") || top(b) && (top(l) || l == "@"+body)
}

// TestHostsChange: a task sees the same, to the byte, when hosts leave in the
// midst of everything and others go on from the tables.
func TestHostsChange(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var all []trees.Tree
	var ids []uuid.UUID
	for seed := range uint64(40) {
		all = append(all, trees.Generate(1000+seed, trees.Options{MS: 30}))
		ids = append(ids, s.start(all[seed]))
	}
	leaves := func(c *stack.Config) { c.Drain = -1 }
	for effects := 20; effects <= 110; effects += 30 {
		_, stop := s.host("leaves", leaves)
		deadline := time.Now().Add(2 * time.Minute)
		for len(s.ledger.Entries()) < effects && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond) // polls other goroutines' effects
		}
		stop()
	}
	p, _ := s.host("stays", nil)
	for _, id := range ids {
		s.wait(p, id)
	}
	seen := s.seen()
	for _, tree := range all {
		check(t, tree, seen[tree.ID])
	}
	var resumed int
	err := s.pool.QueryRow(t.Context(), `select count(*) from public.stack_runs where sequence > 0 and attempt > 1`).Scan(&resumed)
	if err != nil || resumed == 0 {
		t.Errorf("%d bodies went on on another host (%v): nothing was disturbed", resumed, err)
	}
}

// TestEveryAwkwardValue: one body sees each of them, hands it to a child and gets
// it back: the child's lines and result show how it was spelled on the way.
func TestEveryAwkwardValue(t *testing.T) {
	t.Parallel()
	tree := trees.Tree{ID: "awkward", Path: "0"}
	for _, name := range ledger.AwkwardNames() {
		tree.Body = append(tree.Body, trees.Step{Op: trees.OpLedger, Method: ledger.Each, Answer: name, Catch: true})
		child := trees.Step{Op: trees.OpChild, Give: len(tree.Body), Body: []trees.Step{{Op: trees.OpSleep}}}
		tree.Body = append(tree.Body, child)
	}
	seen := play(t, []trees.Tree{tree})[tree.ID]
	check(t, tree, seen)
	lines := strings.Join(runOf(seen, "0").Lines, "\n")
	for _, want := range []string{
		`"value":-0}`, `{"a":[-0,0,-0,-0],"b":"-0"}`,
		`[9007199254740992,-9007199254740992,18446744073709552000,1.2345678901234568e+29]`,
		`{"2":4,"10":3,"b":1,"a":8,"__proto__":5,"constructor":6,"":7,"B":9,"then":10,"toJSON":11}`,
		`["\\u0000","\\ud800","/","é","` + "\u2028" + `","🐢","<&>","` + "\u007f" + `","\"\\\b\f\n\r\t\u001f","%s %d"]`,
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no line has %s:\n%s", want, lines)
		}
	}
	if n := strings.Count(lines, " ! INVALID_RESULT: "); n != 5 {
		t.Errorf("%d answers were refused, want 5:\n%s", n, lines)
	}
	if !strings.Contains(lines, `"give":{"n":`) {
		t.Errorf("no child shows what it was given:\n%s", lines)
	}
}

// TestAwkwardValuesFromTables: the same when the host that made the calls is
// gone: bodies are resumed by another, which reads values and replies from the tables.
func TestAwkwardValuesFromTables(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const delay = 1500 // ms, in which the host leaves
	tree := trees.Tree{ID: "tables", Path: "0"}
	all := trees.Step{Op: trees.OpAll}
	for i, name := range ledger.AwkwardNames() {
		tree.Body = append(tree.Body, trees.Step{Op: trees.OpLedger, Method: ledger.Once, Answer: name, Catch: true})
		call := trees.Step{Op: trees.OpLedger, Method: ledger.Each, Answer: name, Catch: true, Delay: delay}
		child := trees.Step{Op: trees.OpChild, Give: i + 1, Body: []trees.Step{call}}
		all.Of = append(all.Of, call, child)
	}
	tree.Body = append(tree.Body, all)
	names := len(ledger.AwkwardNames())
	id := s.start(tree)
	_, stop := s.host("leaves", func(c *stack.Config) { c.Drain = -1 })
	deadline := time.Now().Add(2 * time.Minute)
	for len(s.ledger.Entries()) < 3*names && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // polls other goroutines' effects
	}
	stop()
	p, _ := s.host("goes on", nil)
	s.wait(p, id)
	check(t, tree, s.seen()[tree.ID])
	var calls int
	err := s.pool.QueryRow(t.Context(), `select count(*) from public.stack_runs where service_name = 'ledger' and attempt > 0`).Scan(&calls)
	if err != nil || calls == 0 { // all 36, as a rule
		t.Errorf("%d calls were made again on another host (%v): nothing came from the tables", calls, err)
	}
}

// TestGenerate: a seed always gives the same tree, and some hundred of them have everything.
func TestGenerate(t *testing.T) {
	t.Parallel()
	counts := map[string]int{}
	deepest := 0
	for seed := range uint64(300) {
		tree := trees.Generate(seed, trees.Options{})
		if !reflect.DeepEqual(tree, trees.Generate(seed, trees.Options{})) {
			t.Fatalf("seed %d gives two trees", seed)
		}
		var back trees.Tree
		if err := json.Unmarshal(tree.Input(), &back); err != nil || !reflect.DeepEqual(tree, back) {
			t.Errorf("%s does not come back from its input: %v", tree.ID, err)
		}
		calls := count(tree.Body, 0, counts, &deepest)
		if calls > 12+6 { // the last composite may go a little beyond
			t.Errorf("%s makes %d calls", tree.ID, calls)
		}
		countDetermined(trees.Generate(seed, trees.Options{Determined: true}).Body, counts)
	}
	want := []string{trees.OpLedger, trees.OpChild, trees.OpSleep, trees.OpTimer, trees.OpAll, trees.OpSettled, trees.OpRace, trees.OpAny,
		trees.OpSeq, trees.OpForget, trees.OpThrow, trees.OpHang, "fail", "refuse", "give", "catch", ledger.Once, ledger.Each,
		"flaky", "given up", "late", "fails", "final", "retries", "child with a timeout", "sleep with a timeout", "delay", "in", "priority"}
	for _, what := range append(want, ledger.AwkwardNames()...) {
		if counts[what] == 0 {
			t.Errorf("no tree has %q", what)
		}
	}
	for _, op := range []string{trees.OpRace, trees.OpAny, trees.OpForget, trees.OpHang, "child with a timeout"} {
		if n := counts["determined "+op]; n > 0 {
			t.Errorf("%d steps of determined trees are %s", n, op)
		}
	}
	if deepest != 3 {
		t.Errorf("children nest %d deep, want 3", deepest)
	}
}

// count counts what steps have, and returns how many calls they make.
func count(steps []trees.Step, depth int, counts map[string]int, deepest *int) (calls int) {
	if len(steps) > 0 {
		*deepest = max(*deepest, depth)
	}
	for _, s := range steps {
		for what, has := range map[string]bool{s.Op: true, s.Answer: true, s.Method: true, "fail": s.Fail != "", "refuse": s.Refuse,
			"give": s.Give > 0, "catch": s.Catch, "flaky": s.Flaky > 0, "given up": s.Flaky == ledger.Always, "late": s.Delay > 1000,
			"fails": s.Fails > 0, "final": s.Final, "retries": s.With != nil && s.With.Retries != nil,
			s.Op + " with a timeout": s.With != nil && s.With.Timeout > 0, "delay": s.With != nil && s.With.Delay > 0,
			"in": s.With != nil && s.With.In > 0, "priority": s.With != nil && s.With.Priority != 0} {
			if has {
				counts[what]++
			}
		}
		switch s.Op {
		case trees.OpLedger, trees.OpSleep, trees.OpTimer, trees.OpChild:
			calls++
		}
		calls += count(s.Of, depth, counts, deepest) + count(s.Body, depth+1, counts, deepest)
	}
	return calls
}

func countDetermined(steps []trees.Step, counts map[string]int) {
	found, deepest := map[string]int{}, 0
	count(steps, 0, found, &deepest)
	for what, n := range found {
		counts["determined "+what] += n
	}
}
