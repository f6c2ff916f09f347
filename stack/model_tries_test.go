package stack_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// again has a call that failed sleep until its next try; a body begins anew then.
func (m *model) again(host stack.Host, a stack.Attempt) bool {
	r := m.row(a.ID)
	if r.Tries != a.Tries || r.Interrupt != "" || r.Status == stack.StatusSleeping || !r.fenced(host, a.Slice) {
		return false
	}
	r.Status, r.Host, r.Stuck, r.slept, r.due, r.Tries = stack.StatusSleeping, uuid.Nil, false, true, a.After == 0, r.Tries+1
	r.keep(r.Tries, "")
	if !r.body() {
		return true
	}
	r.Sequence++
	r.Begins, r.Engine = r.Sequence, ""
	if !m.settle(host, a.Slice, false) {
		return false
	}
	m.cancelBelow(r.ID)
	m.forget(r)
	m.leaveBehind(r)
	if !r.runEnded() {
		r.RunStatus, r.RunStuck = stack.StatusQueued, false
	}
	return true
}

// keep notes a try that is over.
func (r *modelRow) keep(n int, how string) {
	r.Kept = strings.TrimSpace(fmt.Sprintf("%s %d%s", r.Kept, n, how))
}

// leaveBehind is what becomes of the calls of a body that begins anew: it sees none of them.
func (m *model) leaveBehind(r *modelRow) {
	for _, c := range m.calls(r.ID) {
		c.Delivered, c.old = c.Delivered || !c.old, true
	}
}

// wakeDue lets any host claim what has slept long enough.
func (m *model) wakeDue() (woken int) {
	for _, r := range m.rows {
		if r.Status == stack.StatusSleeping && r.due && r.Service != "sleep" && !m.skip[r.ID] {
			r.Status, r.slept, r.due, r.woken = stack.StatusPending, false, false, true
			woken++
		}
	}
	return woken
}

func (w *world) again(h stack.Host, a stack.Attempt) verb {
	return verb{name: fmt.Sprintf("Again on %s %s from %d%s after try %d, in %v", h.Name, a.ID, a.Sequence, describe(a.Slice), a.Tries+1, a.After),
		about: append(aboutSlice(a.Slice), a.ID),
		do:    func(ctx context.Context) answer { return answer{err: w.d.store.Again(ctx, h, a)} },
		apply: func(m *model, got answer) error {
			return got.expect(m.try(func(m *model) bool { return m.again(h, a) }), stack.ErrClaimLost, nil, nil)
		}}
}

func (w *world) wakeDue() verb {
	return verb{name: "WakeDue", many: true,
		do: func(ctx context.Context) (got answer) {
			got.freed, got.err = w.d.store.WakeDue(ctx, 1000)
			return got
		},
		apply: func(m *model, got answer) error { return got.expect(true, nil, got.freed, m.wakeDue()) }}
}

// drawAgain is about a call or a body that failed and is tried again.
func (w *world) drawAgain() (verb, bool) {
	if w.chance(50, "body") {
		k, ok := w.drawWork()
		if !ok || w.chance(50, "not now") {
			return verb{}, false
		}
		return w.begins(k)
	}
	c, ok := mostly(w, w.calls, func(c inHand) bool { return w.m.row(c.id).fenced(c.host, c.slice()) }, func(c inHand) uuid.UUID { return c.id })
	return w.again(c.host, w.attempt(c.id, c.tries, stack.Slice{}.WithAttempt(w.claimOf(c.attempt)))), ok
}

// begins has a body begin anew after a slice.
func (w *world) begins(k work) (verb, bool) {
	sl := w.slice(k, 2)
	if !k.held && len(sl.Settled) == 0 {
		return verb{}, false
	}
	a := w.attempt(k.id, k.tries, sl)
	a.TaskRun = k.run
	return w.again(k.host, a), true
}

func (w *world) attempt(id uuid.UUID, tries int, sl stack.Slice) stack.Attempt {
	w.named++
	// Time passes by hand: whoever ends it at the same moment may find that it is due, or not.
	return stack.Attempt{ID: id, Tries: tries, Err: service.Errorf(service.CodeServiceError, "try %d", w.named), After: time.Hour, Slice: sl}
}

// drawWakeDue looks for what has slept long enough, if there is any.
func (w *world) drawWakeDue() (verb, bool) {
	return w.wakeDue(), slices.ContainsFunc(w.m.rows, func(r *modelRow) bool { return r.Status == stack.StatusSleeping && r.due && r.Service != "sleep" })
}

// claimOf is the attempt that a slice names; sometimes it is from an earlier claim of
// the same host.
func (w *world) claimOf(attempt int) int {
	if w.chance(4, "an earlier claim") {
		return attempt - 1
	}
	return attempt
}

// slice is that of a call.
func (c inHand) slice() stack.Slice { return stack.Slice{}.WithAttempt(c.attempt) }
