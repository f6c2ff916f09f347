package stack_test

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// TestSuspendAgainstComplete: a call ends while its caller's body is being
// suspended. Whichever transaction is second sees the other: exactly one of
// them says that the body must go on, and no body waits for an ended call.
func TestSuspendAgainstComplete(t *testing.T) {
	t.Parallel()
	d, e, host := newPair(t)
	suspendSaw, completeSaw := 0, 0
	for range 150 {
		r := newRace(d, e, host)
		var after stack.Suspended
		var resume bool
		var suspendErr, completeErr error
		var both sync.WaitGroup
		gun := make(chan struct{})
		both.Go(func() { <-gun; after, suspendErr = d.store.Suspend(t.Context(), host, r.second) })
		both.Go(func() { <-gun; resume, completeErr = d.store.Complete(t.Context(), host, r.b) })
		close(gun)
		both.Wait()
		if suspendErr != nil || completeErr != nil {
			t.Fatal(suspendErr, completeErr)
		}
		more := after.Replies
		switch {
		case len(more) == 1 && !resume && more[0].ID == r.b.ID:
			suspendSaw++
		case len(more) == 0 && resume:
			completeSaw++
		default:
			t.Fatalf("Suspend returned %d replies, Complete said resume %v: the wake is lost or doubled", len(more), resume)
		}
	}
	t.Logf("Suspend saw the reply %d times, Complete the waiting body %d times", suspendSaw, completeSaw)
	if n := d.count(`select count(*) from stack_runs where status = 'suspended_waiting_child'`); n != 0 {
		t.Errorf("%d bodies wait for calls that have ended", n)
	}
}

// newPair is a database with a task of two calls, and a host that runs nothing by itself.
func newPair(t *testing.T) (*db, *vm.Engine, stack.Host) {
	t.Helper()
	d := newDB(t, map[string]string{
		"pair": `module.exports = async (i, { tools }) => { const a = tools.echo.value('a'), b = tools.echo.value('b'); return [await a, await b] }`,
	})
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	host, err := d.store.Register(t.Context(), stack.Host{Name: "test", Engines: e.Identities()}, 1e12, false)
	if err != nil {
		t.Fatal(err)
	}
	return d, e, host
}

// race is a body whose call a has ended and been seen, about to be suspended
// again, while its call b is about to end.
type race struct {
	second stack.Suspension
	b      stack.Ending
}

func newRace(d *db, e *vm.Engine, host stack.Host) race {
	d.t.Helper()
	body, err := d.store.Start(d.t.Context(), host, stack.StartParams{Task: "pair"}, true)
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := e.Start(d.t.Context(), vm.StartParams{Frame: body.ID, Name: "pair", Code: body.Code})
	if err != nil || len(out.Calls) != 2 {
		d.t.Fatal(err, out)
	}
	suspension := stack.Suspension{ID: body.ID, TaskRun: body.TaskRun, Task: "pair", Slice: stack.Slice{Held: true}, Snapshot: out.Snapshot, Waits: 2}
	for _, c := range out.Calls {
		suspension.Calls = append(suspension.Calls, stack.Child{ID: uuid.Must(uuid.NewV7()), CallID: c.ID, Call: c.Call})
	}
	if _, err := d.store.Suspend(d.t.Context(), host, suspension); err != nil {
		d.t.Fatal(err)
	}
	ending := func(i int) stack.Ending {
		c := suspension.Calls[i]
		return stack.Ending{ID: c.ID, Parent: body.ID, CallID: c.CallID, Reply: service.Reply{Value: json.RawMessage(`1`)}}
	}
	if resume, err := d.store.Complete(d.t.Context(), host, ending(0)); err != nil || !resume {
		d.t.Fatal(err, resume)
	}
	out, err = e.Resume(d.t.Context(), body.ID, out.Snapshot, []vm.Reply{{ID: suspension.Calls[0].CallID, Reply: service.Reply{Value: json.RawMessage(`1`)}}})
	if err != nil || out.Snapshot == nil {
		d.t.Fatal(err, out)
	}
	return race{b: ending(1), second: stack.Suspension{ID: body.ID, TaskRun: body.TaskRun, Task: "pair", Snapshot: out.Snapshot, Waits: 1,
		Slice: stack.Slice{Sequence: 1, Held: true, Delivered: []uuid.UUID{suspension.Calls[0].ID}}}}
}

// TestSecondResumeLosesItsClaim: of two slices that started from one snapshot
// the second to commit changes nothing.
func TestSecondResumeLosesItsClaim(t *testing.T) {
	t.Parallel()
	d, e, host := newPair(t)
	r := newRace(d, e, host)
	old := stack.Ending{ID: r.second.ID, TaskRun: r.second.TaskRun, Reply: service.Reply{Value: json.RawMessage(`1`)},
		Slice: stack.Slice{Sequence: 0, Held: true}} // the row is held, and has gone on since
	if _, err := d.store.Complete(t.Context(), host, old); err != stack.ErrClaimLost {
		t.Errorf("an end that comes from an old snapshot: %v", err)
	}
	if _, err := d.store.Suspend(t.Context(), host, r.second); err != nil {
		t.Fatal(err)
	}
	before := d.dump()
	if _, err := d.store.Suspend(t.Context(), host, r.second); err != stack.ErrClaimLost {
		t.Errorf("a second commit from the same snapshot: %v", err)
	}
	speculative := r.second
	speculative.Held = false
	if _, err := d.store.Suspend(t.Context(), host, speculative); err != stack.ErrClaimLost {
		t.Errorf("a speculative commit from an old snapshot: %v", err)
	}
	stranger := stack.Host{ID: uuid.New(), Engines: host.Engines}
	if _, err := d.store.Complete(t.Context(), stranger, r.b); err != stack.ErrClaimLost {
		t.Errorf("a call of another host: %v", err)
	}
	if after := d.dump(); after != before {
		t.Errorf("the rows changed\n%s\n%s", before, after)
	}
}
