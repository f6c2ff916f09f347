package stack_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// grace is how long a body has to tidy up: for ever, or not at all.
const grace = time.Hour

// interruption is the error of what is interrupted.
func interruption(why string) *service.Error {
	if why == "timeout" {
		return &service.Error{Name: "TimeoutError", Code: service.CodeTimeout, Message: "The run took longer than it may."}
	}
	return &service.Error{Name: "CancelledError", Code: service.CodeCancelled, Message: "The run was cancelled."}
}

// begun reports whether a body has done anything that may have to be tidied up.
func (r *modelRow) begun() bool {
	return r.body() && (r.Sequence > r.Begins || r.Status == stack.StatusProcessing)
}

// interrupt has a body end, after those below it: its open calls are rejected, and
// it has a time to tidy up, which begins after theirs. One that runs learns of it
// when it waits.
func (m *model) interrupt(r *modelRow, why string, grace time.Duration) {
	late, below := grace == 0, false
	if r.Status != stack.StatusProcessing {
		for _, c := range m.calls(r.ID) {
			switch {
			case c.ended():
				continue
			case c.Interrupt != "": // has been told already
			case c.begun():
				m.interrupt(c, why, grace)
			default:
				m.reject(c, why)
				continue
			}
			late, below = late && c.Late, true
		}
		r.Told, r.toldAt = true, r.Sequence
	}
	r.Interrupt, r.Timed, r.Late = why, true, late
	if r.Status == stack.StatusWaiting && !below {
		r.Status = stack.StatusResume
	}
}

// reject ends a call, or a body that has not begun, for its caller to see.
func (m *model) reject(c *modelRow, why string) {
	message := interruption(why).Message
	c.Status, c.Error, c.exact, c.Host, c.Stuck = stack.StatusCancelled, message, "error "+message, uuid.Nil, false
	if c.body() {
		c.RunStatus, c.RunError, c.RunStuck = c.Status, message, false
	}
}

// belowFirst reports whether a body is to end after others below it, but for those
// that have ended just now.
func (m *model) belowFirst(r *modelRow, but []stack.Ending) bool {
	return r.Told && slices.ContainsFunc(m.calls(r.ID), func(c *modelRow) bool {
		return !c.ended() && c.Interrupt != "" && !slices.ContainsFunc(but, func(e stack.Ending) bool { return e.ID == c.ID })
	})
}

// endEarly asks a body to end, or ends a row in place of whoever works for it.
func (m *model) endEarly(host stack.Host, id uuid.UUID, why string, grace time.Duration) (in stack.Interrupted) {
	r := m.row(id)
	switch {
	case r.ended():
		return stack.Interrupted{Ended: true}
	case why == "timeout" && !r.Late:
		return in
	case r.Interrupt == "" && r.begun():
		m.interrupt(r, why, grace)
		return in
	}
	e := stack.Ending{ID: id, Parent: r.Parent, TaskRun: r.Run, Slice: stack.Slice{Sequence: r.Sequence, Held: true}, Interrupt: r.Interrupt, Forced: true, CancelOpen: true}
	if r.Interrupt != "" {
		why = r.Interrupt
	}
	if e.Reply.Err = interruption(why); !r.body() {
		e.Reply.Err.Message = fmt.Sprintf("tools.%s.value took longer than it may.", r.Service)
	}
	if resume, _ := m.complete(host, e); resume {
		in.Parent = r.Parent
	}
	in.Ended = true
	return in
}

func (w *world) cancel(h stack.Host, id uuid.UUID, grace time.Duration) verb {
	run := w.m.row(id).Run
	return w.endsEarly(h, id, "cancel", grace, fmt.Sprintf("Cancel on %s %s with %v", h.Name, id, grace), func(ctx context.Context) (stack.Interrupted, error) {
		return w.d.store.Cancel(ctx, h, run, grace)
	})
}

func (w *world) expire(h stack.Host, id uuid.UUID, grace time.Duration) verb {
	return w.endsEarly(h, id, "timeout", grace, fmt.Sprintf("Expire on %s %s with %v", h.Name, id, grace), func(ctx context.Context) (stack.Interrupted, error) {
		return w.d.store.Expire(ctx, h, id, grace)
	})
}

func (w *world) endsEarly(h stack.Host, id uuid.UUID, why string, grace time.Duration, name string, do func(context.Context) (stack.Interrupted, error)) verb {
	v := verb{name: name, about: []uuid.UUID{id},
		do: func(ctx context.Context) (got answer) {
			in, err := do(ctx)
			return answer{early: stack.Interrupted{Ended: in.Ended, Parent: in.Parent}, err: err} // what it tells observers is not of the tables
		},
		apply: func(m *model, got answer) error {
			want := m.endEarly(h, id, why, grace)
			return got.expect(true, nil, got.early, want)
		}}
	if parent := w.m.row(id).Parent; parent != uuid.Nil {
		v.about = append(v.about, parent)
	}
	return v
}

// overdue has the time of a row be over.
func (w *world) overdue(id uuid.UUID) verb {
	return w.byHand("the time of "+id.String()+" is over", `update stack_runs set deadline_at = now() where id = $1 and deadline_at is not null`, id,
		func(m *model) {
			if r := m.row(id); r.Timed {
				r.Late = true
			}
		})
}

func (w *world) drawGrace() time.Duration {
	if w.chance(25, "no grace") {
		return 0
	}
	return grace
}

// drawCancel cancels a run, mostly one that goes on.
func (w *world) drawCancel() (verb, bool) {
	rows := w.some(func(r *modelRow) bool { return r.body() && !r.ended() })
	if w.chance(10, "late") {
		rows = w.some((*modelRow).body)
	}
	id, ok := pick(w, rows, "run", itself)
	if !ok || w.chance(40, "not now") { // or there is little else to see
		return verb{}, false
	}
	return w.cancel(w.anyHost(), id, w.drawGrace()), true
}

// drawExpire is about a row whose time is over, or soon will be.
func (w *world) drawExpire() (verb, bool) {
	id, ok := pick(w, w.some(func(r *modelRow) bool { return r.Late && !r.ended() }), "late", itself)
	if ok && !w.chance(10, "any") {
		return w.expire(w.anyHost(), id, w.drawGrace()), true
	}
	if id, ok = pick(w, w.some(func(r *modelRow) bool { return r.Timed && !r.ended() }), "timed", itself); !ok {
		return verb{}, false
	}
	if w.chance(60, "over") {
		return w.overdue(id), true
	}
	return w.expire(w.anyHost(), id, w.drawGrace()), true
}

// drawDeadline gives some rows only so much time.
func (w *world) drawDeadline() time.Time {
	if w.chance(20, "timed") {
		return time.Now().Add(time.Hour)
	}
	return time.Time{}
}

// reasonFor is why a body is to end, as whoever ends it finds out before it is too
// late, mostly.
func (w *world) reasonFor(k work) string {
	if w.chance(10, "unaware") {
		return k.interrupt
	}
	return w.m.row(k.id).Interrupt
}
