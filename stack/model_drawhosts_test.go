package stack_test

import (
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/amberhost/amber/stack"
)

// drawLease is about hosts: they come, stay, leave and are lost.
func (w *world) drawLease() (verb, bool) {
	h := withoutLeaving(w.anyHost())
	switch w.number(0, 5, "what") {
	case 0:
		return w.register(w.number(0, 3, "engine"), rapid.SampledFrom([]string{"a", "b"}).Draw(w.t, "name"), w.chance(30, "exclusive")), true
	case 1:
		return w.renew(h), true
	case 2:
		return w.release(h), true
	case 3:
		return w.timers(), true
	}
	return w.loses(h), true
}

// drawGiveBack is about rows that a host gives back without having ended them.
func (w *world) drawGiveBack() (verb, bool) {
	held := w.some(func(r *modelRow) bool { return r.Status == stack.StatusProcessing })
	if w.chance(20, "any row") {
		held = w.some(func(*modelRow) bool { return true })
	}
	id, ok := pick(w, held, "row", itself)
	if !ok {
		return verb{}, false
	}
	r := w.m.row(id)
	h := withoutLeaving(w.anyHost())
	for _, holder := range w.hosts {
		if holder.ID == r.Host && w.chance(85, "its host") {
			h = holder
		}
	}
	switch w.number(0, 5, "how") {
	case 0, 1:
		sl := stack.Slice{Sequence: r.Sequence - int64(w.number(0, 1, "before"))}
		return w.yield(h, id, sl.WithAttempt(r.Attempt-w.number(0, 1, "an attempt before"))), true
	case 2:
		known := w.some(func(*modelRow) bool { return w.chance(50, "known") })
		return w.giveBack(h, append([]uuid.UUID{}, known...)), true // never nil, as nobody's is
	case 3:
		return w.park(h, id), true
	case 4:
		return w.pass(h, id), true
	}
	return w.abandon(h, id), true
}

// drawByHand is what somebody does with SQL, or time.
func (w *world) drawByHand() (verb, bool) {
	if id, ok := pick(w, w.some(func(r *modelRow) bool { return r.Status == stack.StatusSleeping && !r.due }), "sleeper", itself); ok && w.chance(70, "a timer") {
		return w.fallsDue(id), true
	}
	if id, ok := pick(w, w.some(func(r *modelRow) bool { return r.Timed && !r.Late && !r.ended() }), "timed", itself); ok && w.chance(30, "time") {
		return w.overdue(id), true
	}
	id, ok := pick(w, w.some(func(r *modelRow) bool { return !r.body() && !r.ended() }), "call", itself)
	return w.edit(id), ok
}
