package stack_test

import (
	"slices"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/amberhost/amber/stack"
)

// chance is true so many times in a hundred.
func (w *world) chance(percent int, label string) bool {
	return rapid.IntRange(0, 99).Draw(w.t, label) >= 100-percent // what is simplest to rapid is false
}

func (w *world) number(low, high int, label string) int {
	return rapid.IntRange(low, high).Draw(w.t, label)
}

// anyHost is mostly one whose lease lasts.
func (w *world) anyHost() stack.Host {
	live := slices.DeleteFunc(slices.Clone(w.hosts), func(h stack.Host) bool { return !w.m.live(h.ID) })
	h, ok := pick(w, live, "host", nobody)
	if !ok || w.chance(10, "any host") {
		h, _ = pick(w, w.hosts, "host", nobody)
	}
	return w.leaving(h)
}

func (w *world) leaving(h stack.Host) stack.Host {
	h.Leaving = w.chance(10, "leaving")
	return h
}

// pick draws one of a list, the last ones first; of those that are near what is
// drawn about, if there are any.
func pick[T any](w *world, of []T, label string, id func(T) uuid.UUID) (one T, ok bool) {
	if w.near != uuid.Nil {
		if near := slices.DeleteFunc(slices.Clone(of), func(one T) bool { return !w.related(id(one)) }); len(near) > 0 {
			of = near
		}
	}
	if len(of) == 0 {
		return one, false
	}
	return of[len(of)-1-w.number(0, len(of)-1, label)], true
}

// mostly draws one that is good; sometimes any, which comes late.
func mostly[T any](w *world, of []T, good func(T) bool, id func(T) uuid.UUID) (one T, ok bool) {
	if w.chance(15, "late") {
		open := slices.DeleteFunc(slices.Clone(of), func(one T) bool { r := w.m.row(id(one)); return good(one) || r == nil || r.ended() })
		if len(open) > 0 && w.chance(70, "open") {
			of = open // to which somebody else has gone on
		}
		return pick(w, of, "any", id)
	}
	return pick(w, slices.DeleteFunc(slices.Clone(of), func(one T) bool { return !good(one) }), "one", id)
}

// related reports whether a row is the one that is drawn about, or above or below it.
func (w *world) related(id uuid.UUID) bool {
	above := func(a, b uuid.UUID) bool {
		for b != uuid.Nil && b != a {
			r := w.m.row(b)
			if r == nil {
				return false
			}
			b = r.Parent
		}
		return a == b
	}
	return id != uuid.Nil && (above(id, w.near) || above(w.near, id))
}

// some are the rows for which the condition holds.
func (w *world) some(which func(*modelRow) bool) (ids []uuid.UUID) {
	for _, r := range w.m.rows {
		if which(r) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func nobody(stack.Host) uuid.UUID { return uuid.Nil } // hosts are near no row

func itself(id uuid.UUID) uuid.UUID { return id }
