package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestRetryFencesOldSlices: a host ends a run whose slice still computes, the run is
// retried, and the same host holds it again, at the same sequence. What the old slice
// brings changes nothing; what the new one brings counts.
func TestRetryFencesOldSlices(t *testing.T) {
	t.Parallel()
	d, e, host := newPair(t)
	race := newRace(d, e, host)
	body, err := d.store.Held(t.Context(), host, race.second.ID)
	if err != nil {
		t.Fatal(err)
	}
	end := func(b *stack.Body, reply service.Reply, slice stack.Slice) error {
		_, err := d.store.Complete(t.Context(), host, stack.Ending{ID: b.ID, TaskRun: b.TaskRun, Reply: reply, Slice: slice, CancelOpen: true})
		return err
	}
	suspend := func(slice stack.Slice) error {
		race.second.Slice = slice
		_, err := d.store.Suspend(t.Context(), host, race.second)
		return err
	}
	old := stack.SliceOf(body)
	if err := end(body, service.Reply{Err: &service.Error{Code: "TIMEOUT", Message: "It was cut short."}}, old); err != nil {
		t.Fatal(err)
	}
	if err := d.store.RetryRun(t.Context(), body.TaskRun, false); err != nil {
		t.Fatal(err)
	}
	claims, err := d.store.ClaimRow(t.Context(), host, body.ID)
	if err != nil || len(claims) != 1 {
		t.Fatal(claims, err)
	}
	if err := d.store.Open(t.Context(), host, &claims[0]); err != nil {
		t.Fatal(err)
	}
	again := claims[0].Body
	if again.Sequence != body.Sequence {
		t.Fatalf("it goes on at sequence %d, not %d", again.Sequence, body.Sequence)
	}
	before := d.dump()
	value := service.Reply{Value: json.RawMessage(`"old"`)}
	for what, err := range map[string]error{"end": end(body, value, old), "suspension": suspend(old),
		"try": d.store.Again(t.Context(), host, stack.Attempt{ID: body.ID, TaskRun: uuid.Nil, Err: &service.Error{Code: "BROKE"}, Slice: old})} {
		if err != stack.ErrClaimLost {
			t.Errorf("the %s of the old slice: %v", what, err)
		}
	}
	if err := d.store.Yield(t.Context(), host, body.ID, old); err != nil {
		t.Error(err)
	}
	if after := d.dump(); after != before {
		t.Errorf("the rows changed\n%s\n%s", before, after)
	}
	if err := end(again, service.Reply{Value: json.RawMessage(`"new"`)}, stack.SliceOf(again)); err != nil {
		t.Fatal(err)
	}
	r, err := d.store.Run(t.Context(), body.TaskRun)
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, r, `"new"`)
}

// TestRetryFencesOldCalls: a call is with its service when its run fails, and when the
// run is retried, which makes it again. What the service says to the earlier ones is
// late, whether they were made by the slice itself or claimed.
func TestRetryFencesOldCalls(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => await Promise.all([tools.slow.go(), tools.breaks.go()])`})
	s := &slow{asked: make(chan chan string)}
	b := &told{fail: make(chan bool)}
	p, _ := d.host(func(c *stack.Config) { c.Services["slow"], c.Services["breaks"] = s, b })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "t"})
	if err != nil {
		t.Fatal(err)
	}
	var early []chan string
	for range 2 {
		early = append(early, <-s.asked)
		b.fail <- true
		wantError(t, d.wait(p, r.ID), service.CodeServiceError)
		if _, err := p.Retry(t.Context(), r.ID, false); err != nil {
			t.Fatal(err)
		}
	}
	last := <-s.asked
	for _, answer := range early {
		answer <- `"late"`
	}
	d.eventually("the early ones are done with", func() bool { return s.done.Load() == 2 })
	time.Sleep(100 * time.Millisecond) // for the host to make what it wants of them
	last <- `"in time"`
	b.fail <- false
	wantResult(t, d.wait(p, r.ID), `["in time", "fine"]`)
}

// slow answers each call as it is told, whatever becomes of it.
type slow struct {
	asked chan chan string
	done  atomic.Int32
}

func (s *slow) Call(context.Context, service.Call, service.Meta) (json.RawMessage, error) {
	answer := make(chan string)
	s.asked <- answer
	defer s.done.Add(1)
	return json.RawMessage(<-answer), nil
}

// told fails when it is told to.
type told struct{ fail chan bool }

func (b *told) Call(context.Context, service.Call, service.Meta) (json.RawMessage, error) {
	if <-b.fail {
		return nil, errors.New("broken")
	}
	return json.RawMessage(`"fine"`), nil
}
