package stack_test

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
)

// claimable reports whether a host may claim a row as one of that kind.
func (m *model) claimable(host stack.Host, r *modelRow, kind stack.ClaimKind) bool {
	if r.Status != stack.StatusPending && r.Status != stack.StatusResume || r.Stuck || m.belowFirst(r, nil) || !r.runs(host) || !m.live(host.ID) {
		return false
	}
	switch task := r.Service == "tasks"; kind {
	case stack.ClaimBodies:
		return task && !r.suspect()
	case stack.ClaimCalls:
		return !task
	case stack.ClaimSuspects:
		return r.suspect()
	}
	return !r.suspect()
}

// claim checks that a host was given what it is due, and gives it.
func (m *model) claim(host stack.Host, kind stack.ClaimKind, limit int, only uuid.UUID, got []uuid.UUID) error {
	var due []*modelRow
	for _, r := range m.rows {
		if m.claimable(host, r, kind) && (only == uuid.Nil || r.ID == only) {
			due = append(due, r)
		}
	}
	slices.SortStableFunc(due, func(a, b *modelRow) int { return cmp.Compare(a.born, b.born) })
	youngest := -1
	for _, id := range got {
		r := m.row(id)
		if !slices.Contains(due, r) {
			return fmt.Errorf("it claims %s, which it may not", id)
		}
		if !r.woken {
			youngest = max(youngest, r.born)
		}
		r.give(host.ID)
		r.Attempt++
	}
	if m.raced {
		return nil
	}
	if want := min(limit, len(due)); len(got) != want {
		return fmt.Errorf("it claims %d rows, want %d of %d", len(got), want, len(due))
	}
	for _, r := range due {
		if r.born < youngest && !r.woken && !slices.Contains(got, r.ID) {
			return fmt.Errorf("it passes by %s, which is older than others", r.ID)
		}
	}
	return nil
}

// freeHeld frees what a host holds and the condition is for.
func (m *model) freeHeld(host uuid.UUID, which func(*modelRow) bool) (freed int) {
	for _, r := range m.rows {
		if r.Status == stack.StatusProcessing && r.Host == host && which(r) && !m.skip[r.ID] {
			r.free()
			freed++
		}
	}
	return freed
}

// remove takes hosts out of amber.hosts.
func (m *model) remove(which func(modelHost) bool) { m.hosts = slices.DeleteFunc(m.hosts, which) }

const quarantine = 5

// reap frees what lost hosts held, and wakes whoever waits for what has ended.
func (m *model) reap() (freed int, suspects bool) {
	m.remove(func(h modelHost) bool { return !h.live })
	free := []string{stack.StatusPending, stack.StatusResume, "pending_execution"}
	suspects = slices.ContainsFunc(m.rows, func(r *modelRow) bool { return r.suspect() && !r.Stuck && slices.Contains(free, r.Status) })
	there := map[uuid.UUID]bool{}
	for _, h := range m.hosts {
		there[h.id] = true
	}
	for _, r := range m.rows {
		if r.Status != stack.StatusProcessing || there[r.Host] || m.skip[r.ID] {
			continue
		}
		r.free()
		freed++
		if !r.body() {
			continue
		}
		if r.CrashSequence != r.Sequence {
			r.Crashes = 0
		}
		r.Crashes, r.CrashSequence = r.Crashes+1, r.Sequence
		suspects = suspects || r.Crashes >= 2
		if r.Crashes >= quarantine {
			r.Stuck, r.RunStuck = true, true
		}
	}
	for _, r := range m.rows {
		if r.Status == stack.StatusWaiting && r.Interrupt == "" && !m.skip[r.ID] && slices.ContainsFunc(m.calls(r.ID), func(c *modelRow) bool { return c.aged && !c.Delivered && !c.old }) {
			r.free()
			freed++
		}
	}
	return freed, suspects
}

// register adds a host and lets what is parked go on, if the host can.
func (m *model) register(h stack.Host, exclusive bool) {
	for i := range m.hosts {
		if exclusive && m.hosts[i].name == h.Name {
			m.hosts[i].live = false
		}
	}
	m.hosts = append(m.hosts, modelHost{id: h.ID, name: h.Name, live: true})
	for _, r := range m.rows {
		if r.Stuck && r.runs(h) && !(r.Crashes >= quarantine && r.CrashSequence == r.Sequence) {
			r.Stuck, r.RunStuck = false, false
		}
	}
}
