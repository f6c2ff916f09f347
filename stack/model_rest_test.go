package stack_test

import (
	"slices"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// rest has one host do what hosts do, while all others are lost, until nothing is
// left. Every run must end: nothing of what came before may have lost a wake. What
// comes after that is too late.
func (w *world) rest() {
	for _, h := range w.hosts {
		if w.m.live(h.ID) {
			w.step(w.loses(h))
		}
	}
	h := w.step(w.register(1, "last", false)).host
	for _, id := range w.some(func(r *modelRow) bool { return r.Stuck }) {
		w.step(w.byHand("quarantine of "+id.String()+" ends", `
			with cleared as (update stack_runs set stuck_reason = null where id = $1 returning child_task_run_id)
			update task_runs set stuck_reason = null where id = (select child_task_run_id from cleared)`, id,
			func(m *model) { r := m.row(id); r.Stuck, r.RunStuck = false, false }))
	}
	w.settles(h)
	for _, id := range w.some(func(r *modelRow) bool { return r.Parent == uuid.Nil && r.Status == stack.StatusFailed }) {
		w.step(w.retry(id, false))
	}
	w.settles(h)
	w.late()
}

// settles has a host do all that there is to do.
func (w *world) settles(h stack.Host) {
	for _, id := range w.some(func(r *modelRow) bool { return r.Status == stack.StatusSleeping && !r.due }) {
		w.step(w.fallsDue(id))
	}
	for round := 0; len(w.unended()) > 0; round++ {
		before := w.text
		w.round(h)
		if w.text == before || round > 2*len(w.m.rows)+10 {
			w.t.Fatalf("nothing goes on, and there are runs that have not ended\n%s", w.m)
		}
	}
}

func (w *world) unended() []uuid.UUID { return w.some(func(r *modelRow) bool { return !r.ended() }) }

// round is what a host does once in a while.
func (w *world) round(h stack.Host) {
	w.step(w.reap())
	for _, id := range w.some(w.unheard) {
		w.step(w.overdue(id))
	}
	for _, id := range w.some(func(r *modelRow) bool { return r.Late && !r.ended() }) {
		if parent := w.step(w.expire(h, id, grace)).early.Parent; parent != uuid.Nil {
			w.goesOn(h, w.step(w.hold(h, parent)).body)
		}
	}
	w.step(w.timers())
	for _, id := range w.some(func(r *modelRow) bool { return r.Status == stack.StatusSleeping && r.Service == "sleep" }) {
		if w.m.row(id).Status == stack.StatusSleeping { // still
			w.ends(h, w.callEnding(id, stack.Slice{}))
		}
	}
	w.step(w.wakeDue())
	for _, kind := range []stack.ClaimKind{stack.ClaimAll, stack.ClaimSuspects} {
		for _, c := range w.step(w.claim(h, kind, 100)).claims {
			if r := w.m.row(c.ID); r.Status != stack.StatusProcessing || r.Host != h.ID {
				continue // it was cancelled with its caller
			}
			opened := w.step(w.open(claimed{host: h, claim: c, at: w.m.row(c.ID).Sequence, first: w.m.row(c.ID).Begins}))
			if opened.body == nil {
				w.ends(h, w.callEnding(c.ID, stack.Slice{}.WithAttempt(c.Attempt())))
			} else {
				w.goesOn(h, opened.body)
			}
		}
	}
}

// unheard reports whether a body tidies up and waits for a call that was ended by hand:
// it is not woken for that, and has only so much time.
func (w *world) unheard(r *modelRow) bool {
	return r.Status == stack.StatusWaiting && r.Interrupt != "" && !r.Late && !slices.ContainsFunc(w.m.calls(r.ID), func(c *modelRow) bool { return !c.ended() })
}

// ends ends a row, and goes on with its caller if that is given to the host.
func (w *world) ends(h stack.Host, e stack.Ending) {
	if w.step(w.complete(h, e)).resume {
		w.goesOn(h, w.step(w.hold(h, e.Parent)).body)
	}
}

// goesOn runs a body that a host holds: it ends when its calls have.
func (w *world) goesOn(h stack.Host, b *stack.Body) {
	k := work{host: h, id: b.ID, run: b.TaskRun, depth: b.Depth, sequence: b.Sequence, held: true, replies: idsOf(b.Replies), attempt: b.Attempt(), tries: b.Tries}
	for {
		sl := stack.Slice{Sequence: k.sequence, Held: true, Delivered: k.replies}.WithAttempt(k.attempt)
		if !slices.ContainsFunc(w.m.calls(b.ID), func(c *modelRow) bool { return !c.ended() }) {
			w.ends(h, asInterrupted(stack.Ending{ID: b.ID, Parent: b.Parent, CallID: b.CallID, Reply: w.reply(false, ""), TaskRun: b.TaskRun, Slice: sl}, w.m.row(b.ID).Interrupt))
			return
		}
		got := w.step(w.suspend(h, k, stack.Suspension{ID: b.ID, TaskRun: b.TaskRun, Task: b.Task, Depth: b.Depth, Root: b.Root, Slice: sl,
			Snapshot: w.shots.of(b.ID, k.sequence+1, false, false), Waits: 1, Grace: grace}))
		if len(got.replies) == 0 {
			return
		}
		k.sequence, k.replies = k.sequence+1, idsOf(got.replies)
	}
}

// late has what hosts still believe come when all has ended.
func (w *world) late() {
	for _, k := range w.works[max(0, len(w.works)-2):] {
		r := w.m.row(k.id)
		sl := stack.Slice{Sequence: r.Sequence, Held: k.held, Delivered: k.replies}.WithAttempt(k.attempt)
		w.step(w.again(k.host, stack.Attempt{ID: k.id, TaskRun: k.run, Tries: r.Tries, Err: service.Errorf("LATE", "late"), Slice: sl}))
		w.step(w.complete(k.host, stack.Ending{ID: k.id, Parent: r.Parent, Reply: w.reply(false, ""), TaskRun: k.run, Slice: sl, CancelOpen: true}))
		w.step(w.suspend(k.host, k, stack.Suspension{ID: k.id, TaskRun: k.run, Task: "pair", Root: k.run, Slice: sl,
			Snapshot: w.shots.of(k.id, r.Sequence+1, false, false)}))
	}
	for _, c := range w.calls[max(0, len(w.calls)-2):] {
		w.step(w.complete(c.host, w.callEnding(c.id, c.slice())))
		w.step(w.answer(c.host, w.callEnding(c.id, stack.Slice{})))
		w.step(w.again(c.host, stack.Attempt{ID: c.id, Tries: c.tries, Err: service.Errorf("LATE", "late"), Slice: c.slice()}))
	}
	w.step(w.reap())
}
