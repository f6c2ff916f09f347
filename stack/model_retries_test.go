package stack_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// leaves is what a body that ends as failed leaves, before its open calls are cancelled.
func (m *model) leaves(r *modelRow, e stack.Ending) *modelFailure {
	f := &modelFailure{seen: slices.Clone(e.Delivered)}
	for _, settled := range e.Settled {
		f.seen = append(f.seen, settled.ID)
	}
	for _, c := range m.calls(r.ID) {
		if e.CancelOpen && !c.ended() && !slices.Contains(f.seen, c.ID) {
			f.open = append(f.open, c.ID)
		}
	}
	for _, c := range e.Unsent {
		f.unsent = append(f.unsent, c.ID)
	}
	return f
}

// How a retry takes up a row.
const (
	retryAgain  = "again"  // a call that failed, under another key
	retryOpen   = "open"   // a call that nobody has answered
	retryResume = "resume" // a body from its snapshot
	retryAnew   = "anew"   // a body from its beginning
	retrySeen   = "seen"   // it has ended well: its reply is given once more
)

// retryable reports whether the run of a body can be retried: nobody called it, it
// failed, and did not know that it was to end when it was suspended last. What was
// cancelled can begin anew.
func (r *modelRow) retryable(anew bool) bool {
	return r.body() && r.Parent == uuid.Nil && (r.Status == stack.StatusFailed || r.Status == stack.StatusCancelled && anew) && r.retried(anew) != retrySeen
}

// retry has the body of a run go on that failed, or begin anew.
func (m *model) retry(r *modelRow, anew bool) bool {
	if !r.retryable(anew) {
		return false
	}
	m.takeUp(r, anew, r.limit)
	return true
}

// retried is how a row is taken up.
func (r *modelRow) retried(anew bool) string {
	switch {
	case r.Status == stack.StatusCompleted:
		return retrySeen
	case !r.body() && (r.Status == stack.StatusFailed || r.Replied):
		return retryAgain
	case !r.body():
		return retryOpen
	case anew, r.Status == stack.StatusCancelled, r.Sequence == r.Begins:
		return retryAnew
	case r.left != nil && (!r.Told || r.Sequence == r.toldAt):
		return retryResume
	case r.Parent == uuid.Nil:
		return retrySeen
	}
	return retryAnew
}

// takeUp takes up a row, and those below a body that goes on. limit says that the
// body above has only so much time.
func (m *model) takeUp(r *modelRow, anew, limit bool) {
	how := r.retried(anew)
	if how == retrySeen {
		r.Delivered, r.aged = false, false
		return
	}
	r.keep(r.Tries+1, how)
	r.Result, r.Error, r.exact, r.Delivered, r.Replied, r.Tries, r.Crashes, r.CrashSequence = "", "", "", false, false, 0, 0, 0
	r.Host, r.Stuck, r.Interrupt, r.Told, r.Timed, r.Late = uuid.Nil, false, "", false, r.body() && limit, false
	r.Attempt++
	timer := r.Service == "sleep"
	if r.Status = stack.StatusPending; timer || r.slept && !r.due && how != retryAgain {
		r.Status = stack.StatusSleeping
	} else {
		r.slept, r.due = false, false
	}
	r.woken, r.place = true, 0
	if !r.body() {
		return
	}
	r.RunStatus, r.RunResult, r.RunError, r.RunStuck = stack.StatusQueued, "", "", false
	if how == retryAnew {
		r.Sequence++
		r.Begins, r.Engine = r.Sequence, ""
		m.forget(r)
		for _, c := range m.calls(r.ID) {
			c.CallID, c.old = -1, true
		}
		return
	}
	r.Status, r.RunStatus = stack.StatusWaiting, stack.StatusSuspended
	m.takeUpBelow(r, limit)
}

// takeUpBelow takes up what a body had not been answered, or not in a way that it
// could go on. It goes on itself if it has been given something.
func (m *model) takeUpBelow(r *modelRow, limit bool) {
	left := r.left
	r.left = nil
	var below []*modelRow
	for _, c := range m.calls(r.ID) {
		if slices.Contains(left.unsent, c.ID) {
			c.CallID, c.old = -1, true
		}
		c.place = slices.Index(left.seen, c.ID) + 1
		if !c.old && (c.place > 0 || slices.Contains(left.open, c.ID) || c.ended() && !c.Delivered) {
			below = append(below, c)
		}
	}
	if len(below) == 0 || slices.ContainsFunc(below, func(c *modelRow) bool { return c.Status == stack.StatusCompleted }) {
		r.Status = stack.StatusResume
	}
	for _, c := range below {
		m.takeUp(c, false, limit)
	}
}

// inPlace reports whether replies that are given once more come first, in the order
// in which they were given.
func (m *model) inPlace(replies []stack.Reply) bool {
	last := 0
	for _, r := range replies {
		place := m.row(r.ID).place
		if place == 0 {
			place = len(m.rows) + 1
		}
		if place < last {
			return false
		}
		last = place
	}
	return true
}

func (w *world) retry(id uuid.UUID, anew bool) verb {
	run := w.m.row(id).Run
	return verb{name: fmt.Sprintf("RetryRun of %s, anew %v", id, anew), about: []uuid.UUID{id},
		do: func(ctx context.Context) answer { return answer{err: w.d.store.RetryRun(ctx, run, anew)} },
		apply: func(m *model, got answer) error {
			ok := m.retry(m.row(id), anew)
			var why *service.Error
			if !ok && errors.As(got.err, &why) && why.Code == stack.CodeNotRetryable {
				return nil
			}
			return got.expect(ok, why, nil, nil)
		}}
}

// drawRetry retries a run, mostly one that can be.
func (w *world) drawRetry() (verb, bool) {
	anew := w.chance(25, "anew")
	rows := w.some(func(r *modelRow) bool { return r.retryable(anew) })
	if w.chance(15, "any") {
		rows = w.some((*modelRow).body)
	}
	id, ok := pick(w, rows, "run", itself)
	if !ok {
		return verb{}, false
	}
	return w.retry(id, anew), true
}
