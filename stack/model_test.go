package stack_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestModel has hosts call the verbs of the store at random, late and twice, one
// after another and two at once, and compares the tables with a model after each
// step. Each check ends with all at rest. It is short unless -rapid.checks is given:
//
//	go test ./stack -run TestModel -rapid.checks=1000
//
// The files model_*_test.go are:
//
//	model_state      what a row may be, and what is made of it by who works for it
//	model_claims     the same, by who takes it, loses it or lets it go on
//	model_verbs      a verb: the store's method beside the model's
//	model_interrupts runs that are cancelled, and rows that have had their time
//	model_tries      calls and bodies that fail and are tried again
//	model_retries    runs that failed and go on
//	model_hosts      those about hosts, and what is done by hand
//	model_draw       which verb is next; model_drawhosts, model_pick
//	model_race       two verbs at once
//	model_tables     the tables as they are, and what must hold of them by itself
//	model_rest       how all comes to rest
//	model_shots      snapshots
func TestModel(t *testing.T) {
	t.Parallel()
	given("rapid.checks", "20")
	given("rapid.steps", "60")
	d := newDB(t, map[string]string{"pair": `module.exports = 1`})
	shots := takeShots(t)
	total := tally{verbs: map[string]*[2]int{}}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, d, shots, &total)
		rt.Repeat(w.actions())
		w.rest()
	})
	t.Logf("%d checks: %v", total.checks, &total)
}

// given sets a flag of rapid's, unless the command line does.
func given(name, value string) {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	if !set {
		_ = flag.Set(name, value)
	}
}

// tally counts what was played.
type tally struct {
	checks, steps, lost, races, pairs, waited, deadlocks int
	verbs                                                map[string]*[2]int // by name: how many, and how many of them lost
}

func (n *tally) did(v verb, got answer) {
	n.steps++
	name, _, _ := strings.Cut(v.name, " ")
	if n.verbs[name] == nil {
		n.verbs[name] = new([2]int)
	}
	n.verbs[name][0]++
	if lost(got) {
		n.lost++
		n.verbs[name][1]++
	}
}

func lost(got answer) bool {
	var why *service.Error
	return errors.Is(got.err, stack.ErrClaimLost) || errors.Is(got.err, stack.ErrNotWaiting) ||
		errors.As(got.err, &why) && why.Code == stack.CodeNotRetryable
}

func (n *tally) String() string {
	text := fmt.Sprintf("%d steps, of which %d lost their claim; %d races, %d of them with one above the other; %d waits for a lock, %d deadlocks",
		n.steps, n.lost, n.races, n.pairs, n.waited, n.deadlocks)
	for _, name := range slices.Sorted(maps.Keys(n.verbs)) {
		text += fmt.Sprintf("; %s %d, lost %d", name, n.verbs[name][0], n.verbs[name][1])
	}
	return text
}

// world is a database with a model of it, and what hosts believe meanwhile.
type world struct {
	t     *rapid.T
	d     *db
	shots shots
	tally *tally

	m    *model
	seen history
	text string // all rows as they were after the last step

	// What hosts believe is never forgotten: some of them come late.
	hosts  []stack.Host // every incarnation there was
	works  []work       // slices that can be committed
	calls  []inHand     // calls that are made
	claims []claimed    // rows that were claimed and are yet to be read
	named  int          // replies so far: each is another
	near   uuid.UUID    // if set, what is drawn is about this row or one that is related to it
}

// work is a body in the hands of a host, whether it still is or not.
type work struct {
	host      stack.Host
	id, run   uuid.UUID
	depth     int
	sequence  int64
	held      bool
	replies   []uuid.UUID // that it was given
	interrupt string      // why it is to end, as far as the host knows
	attempt   int         // of the row
	tries     int         // that failed before
}

type inHand struct {
	host           stack.Host
	id             uuid.UUID
	attempt, tries int
}

type claimed struct {
	host  stack.Host
	claim stack.Claim
	at    int64 // its snapshots then
	first int64 // and when it began
}

func newWorld(t *rapid.T, d *db, s shots, total *tally) *world {
	w := &world{t: t, d: d, shots: s, tally: total, m: &model{}, seen: history{}}
	w.sql(`truncate public.task_runs, public.stack_runs, amber.snapshots, amber.replies, amber.hosts, amber.crashes, amber.attempts, amber.failures, amber.logs cascade`)
	total.checks++
	w.check()
	w.step(w.register(0, "a", false))
	w.step(w.register(0, "b", false))
	return w
}

// step does a verb and compares.
func (w *world) step(v verb) answer {
	got := v.do(context.Background())
	w.t.Logf("%s: %s", v.name, got)
	w.tally.did(v, got)
	before := w.text
	if err := v.apply(w.m, got); err != nil {
		w.t.Fatalf("%s: %v\n%s", v.name, err, w.m)
	}
	w.check()
	if lost(got) && !v.reads && w.text != before {
		w.t.Fatalf("%s lost its claim and changed rows\n%s", v.name, changed(before, w.text))
	}
	if v.learn != nil {
		v.learn(got)
	}
	return got
}

// changed are the lines that one text has and the other has not.
func changed(before, after string) string {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	var b strings.Builder
	for _, line := range was {
		if !slices.Contains(is, line) {
			fmt.Fprintf(&b, "was %s\n", line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			fmt.Fprintf(&b, "is  %s\n", line)
		}
	}
	return b.String()
}

// check compares the tables with the model, and with what they were.
func (w *world) check() {
	found, text := w.read()
	if wrong := w.m.differs(found); wrong != "" {
		w.t.Fatalf("the tables are not what the model says:\n%s", wrong)
	}
	if wrong := append(w.seen.changes(found), illegal(found, w.m)...); len(wrong) > 0 {
		w.t.Fatalf("%s\n%s", strings.Join(wrong, "\n"), w.m)
	}
	w.text = text
}

// sql is what somebody does to the tables by hand.
func (w *world) sql(sql string, args ...any) {
	if _, err := w.d.pool.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}
