package stack_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// model is what the tables must hold. Transitions that a fence refuses return
// false; what they changed is then to be thrown away: see try.
type model struct {
	rows  []*modelRow // in the order of their birth
	hosts []modelHost
	clock int // transactions that made rows

	raced bool               // another verb is under way: a claim may pass by what that has locked
	skip  map[uuid.UUID]bool // rows that a statement over many of them does not see
}

// modelHost is a row of amber.hosts.
type modelHost struct {
	id   uuid.UUID
	name string
	live bool
}

// modelRow is a row of stack_runs, and its task_run if it is a body.
type modelRow struct {
	shape
	due    bool          // it has slept long enough
	woken  bool          // it had: when it is its turn is a matter of milliseconds
	old    bool          // its caller has begun anew since it made it
	aged   bool          // ended by hand, a while ago
	slept  bool          // it has a time at which it is, or was, due
	limit  bool          // its run has only so much time
	left   *modelFailure // it failed, and may go on: what it left
	toldAt int64         // its sequence when it was told to end
	place  int           // of its reply among those that a slice is given once more, from 1
	born   int
	exact  string // the reply, as its caller gets it
}

// modelFailure is what a body that failed leaves besides its snapshot.
type modelFailure struct{ seen, open, unsent []uuid.UUID }

func (m *model) clone() *model {
	c := *m
	c.hosts = slices.Clone(m.hosts)
	c.rows = make([]*modelRow, len(m.rows))
	for i, r := range m.rows {
		row := *r
		c.rows[i] = &row
	}
	return &c
}

// try does f, all of it or nothing.
func (m *model) try(f func(m *model) bool) bool {
	c := m.clone()
	if !f(c) {
		return false
	}
	*m = *c
	return true
}

func (m *model) row(id uuid.UUID) *modelRow {
	for _, r := range m.rows {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func (m *model) calls(body uuid.UUID) (calls []*modelRow) {
	for _, r := range m.rows {
		if r.Parent == body && body != uuid.Nil {
			calls = append(calls, r)
		}
	}
	return calls
}

// unseen are the calls of a body that have ended and that it has not seen.
func (m *model) unseen(body uuid.UUID) (ids []uuid.UUID) {
	for _, c := range m.calls(body) {
		if c.ended() && !c.Delivered && !c.old {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func (m *model) live(host uuid.UUID) bool {
	return slices.ContainsFunc(m.hosts, func(h modelHost) bool { return h.id == host && h.live })
}

func (m *model) String() string {
	var b strings.Builder
	for i, r := range m.rows {
		fmt.Fprintf(&b, "%d: %s\n", i, r.shape)
	}
	return b.String()
}

func (r *modelRow) ended() bool { return final(r.Status) }

func (r *modelRow) body() bool { return r.Run != uuid.Nil }

func (r *modelRow) runEnded() bool { return final(r.RunStatus) }

// free gives a row back to any host.
func (r *modelRow) free() {
	r.Host, r.Status = uuid.Nil, stack.StatusPending
	if r.Sequence > r.Begins {
		r.Status = stack.StatusResume
	}
}

func (r *modelRow) give(host uuid.UUID) { r.Status, r.Host = stack.StatusProcessing, host }

// fenced reports whether a slice may be committed, or a call ended.
func (r *modelRow) fenced(host stack.Host, sl stack.Slice) bool {
	if n, known := sl.Attempt(); known && n != r.Attempt {
		return false
	}
	return r.Sequence == sl.Sequence && (r.Status == stack.StatusProcessing && r.Host == host.ID ||
		r.Status == stack.StatusSleeping && r.due ||
		r.Status == stack.StatusWaiting && !sl.Held)
}

// runs reports whether a host can go on with a row: it has the engine and the memory.
func (r *modelRow) runs(host stack.Host) bool {
	return (r.Engine == "" || slices.Contains(host.Engines, r.Engine)) && (r.Sequence == r.Begins || host.Memory == 0)
}

func (r *modelRow) suspect() bool { return r.Crashes >= 2 && r.CrashSequence == r.Sequence }

func takes(h stack.Host) bool { return h.ID != uuid.Nil && !h.Leaving }

// end ends a row as one of several things that a transaction does.
func (m *model) end(host stack.Host, e stack.Ending, delivered, kept bool) bool {
	r := m.row(e.ID)
	if r == nil || r.ended() || r.Interrupt != e.Interrupt || !e.Forced && (!r.fenced(host, e.Slice) || !e.Held && m.belowFirst(r, e.Settled)) {
		return false
	}
	r.Status, r.Result, r.Error, r.exact = outcomeOf(e)
	r.Delivered, r.Host, r.Stuck, r.Replied = delivered, uuid.Nil, false, true
	if e.TaskRun == uuid.Nil {
		return true
	}
	kept = kept && r.Status == stack.StatusFailed
	var left *modelFailure
	if kept && r.Sequence > r.Begins {
		left = m.leaves(r, e)
	}
	if !m.settle(host, e.Slice, kept) {
		return false
	}
	if r.left = left; left == nil {
		m.forget(r)
	}
	if e.CancelOpen {
		m.cancelBelow(r.ID)
	}
	for _, c := range e.Unsent {
		m.born(shape{ID: c.ID, Parent: r.ID, Owner: r.Run, Service: c.Call.Service, CallID: int64(c.CallID), Status: stack.StatusCancelled,
			Error: cancelMessage, Delivered: true})
	}
	if !r.runEnded() {
		r.RunStatus, r.RunResult, r.RunError, r.RunStuck = r.Status, r.Result, r.Error, false
	}
	return true
}

// outcomeOf is a reply as the public columns have it, and as its caller gets it.
func outcomeOf(e stack.Ending) (status, result, failure, exact string) {
	reply := e.Reply
	switch {
	case reply.Err == nil:
		return stack.StatusCompleted, string(reply.Value), "", string(reply.Value)
	case reply.Err.Code == service.CodeCancelled && (e.TaskRun == uuid.Nil || e.Interrupt == "cancel" || e.Forced): // of a task's own error nobody has cancelled it
		return stack.StatusCancelled, "", reply.Err.Message, "error " + reply.Err.Message
	}
	return stack.StatusFailed, "", reply.Err.Message, "error " + reply.Err.Message
}

const cancelMessage = "The caller ended before this call did."

// forget removes what is kept of a body, and of those below it that failed.
func (m *model) forget(r *modelRow) {
	r.Snapshots, r.left = "", nil
	for _, c := range m.calls(r.ID) {
		if c.left != nil {
			m.forget(c)
		}
	}
}

func (m *model) settle(host stack.Host, sl stack.Slice, failed bool) bool {
	for _, e := range sl.Settled {
		if !m.end(host, e, true, failed) {
			return false
		}
	}
	for _, id := range sl.Delivered {
		r := m.row(id)
		if r.Delivered = true; r.left != nil && !failed {
			m.forget(r)
		}
	}
	return true
}

func (m *model) cancelBelow(body uuid.UUID) {
	for _, c := range m.calls(body) {
		if c.ended() {
			continue
		}
		c.Status, c.Error, c.Delivered, c.Host, c.Stuck = stack.StatusCancelled, cancelMessage, true, uuid.Nil, false
		m.forget(c)
		if c.body() && !c.runEnded() {
			c.RunStatus, c.RunError, c.RunStuck = stack.StatusCancelled, cancelMessage, false
		}
		m.cancelBelow(c.ID)
	}
}

// complete ends a row in a transaction of its own; resume says that its caller goes on on this host.
func (m *model) complete(host stack.Host, e stack.Ending) (resume, ok bool) {
	caller := m.row(e.Parent)
	waits := caller != nil && caller.Status == stack.StatusWaiting && !m.belowFirst(caller, []stack.Ending{e})
	if !m.end(host, e, false, true) {
		return false, false
	}
	if !waits {
		return false, true
	}
	if resume = takes(host) && caller.runs(host); resume {
		caller.give(host.ID)
	} else {
		caller.free()
	}
	return resume, true
}

// answer ends a call whoever holds it.
func (m *model) answer(host stack.Host, e stack.Ending) (resume, ok bool) {
	r := m.row(e.ID)
	if r.ended() {
		return false, false
	}
	r.give(host.ID)
	return m.complete(host, e)
}

// suspend commits a slice that waits, and returns what has ended meanwhile.
func (m *model) suspend(host stack.Host, sp stack.Suspension) (more []uuid.UUID, interrupt string, ok bool) {
	r := m.row(sp.ID)
	if r.ended() || !r.fenced(host, sp.Slice) || !sp.Held && m.belowFirst(r, sp.Settled) {
		return nil, "", false
	}
	r.Status, r.Host, r.Sequence, r.Engine, r.Stuck = stack.StatusWaiting, uuid.Nil, r.Sequence+1, sp.Snapshot.Engine.String(), false
	if !m.settle(host, sp.Slice, false) {
		return nil, "", false
	}
	for _, c := range m.calls(r.ID) {
		if !c.ended() && slices.Contains(sp.Cancelled, uint32(c.CallID)) {
			c.Status, c.Delivered, c.Host = stack.StatusCancelled, true, uuid.Nil
		}
	}
	if !sp.Snapshot.Increment() {
		r.Snapshots = ""
	}
	r.Snapshots = strings.TrimSpace(r.Snapshots + " " + fmt.Sprint(r.Sequence))
	m.clock++
	for _, c := range sp.Calls {
		m.child(host, r, c)
	}
	if !r.runEnded() {
		r.RunStatus, r.RunStuck = stack.StatusSuspended, false
	}
	if r.Interrupt != "" && !r.Told {
		interrupt = r.Interrupt
		if m.interrupt(r, interrupt, sp.Grace); r.Status == stack.StatusWaiting {
			return nil, interrupt, true
		}
	}
	if more = m.unseen(r.ID); len(more) > 0 {
		r.Status = stack.StatusResume
		if takes(host) {
			r.give(host.ID)
			return more, interrupt, true
		}
	}
	return nil, interrupt, true
}

func (m *model) child(host stack.Host, r *modelRow, c stack.Child) {
	row := m.born(shape{ID: c.ID, Parent: r.ID, Owner: r.Run, Run: c.TaskRun, Service: c.Call.Service, CallID: int64(c.CallID), Asked: true,
		Timed: !c.Deadline.IsZero()})
	switch {
	case c.Timer, c.After > 0:
		row.Status, row.slept, row.due, row.RunStatus = stack.StatusSleeping, true, c.After == 0, stack.StatusQueued
	case c.Left, !takes(host):
		row.Status, row.RunStatus = stack.StatusPending, stack.StatusQueued
	default:
		row.give(host.ID)
		row.RunStatus = stack.StatusProcessing
	}
	if !row.body() {
		row.RunStatus = ""
	}
}

// born adds a row.
func (m *model) born(s shape) *modelRow {
	r := &modelRow{shape: s, born: m.clock}
	m.rows = append(m.rows, r)
	return r
}

// start adds a run and its body.
func (m *model) start(host stack.Host, b stack.Body, hold bool) {
	m.clock++
	timed := !b.Deadline.IsZero()
	r := m.born(shape{ID: b.ID, Run: b.TaskRun, Owner: b.TaskRun, Service: "tasks", CallID: -1, Status: stack.StatusPending, RunStatus: stack.StatusQueued, Asked: true,
		Timed: timed})
	if r.limit = timed; hold {
		r.give(host.ID)
		r.RunStatus = stack.StatusProcessing
	}
}

// differs compares the tables with the model: "" if they agree.
func (m *model) differs(found tables) string {
	var wrong []string
	want := map[uuid.UUID]shape{}
	for _, r := range m.rows {
		want[r.ID] = r.shape
	}
	for _, id := range slices.SortedFunc(maps.Keys(found.rows), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }) {
		if got := found.rows[id]; got != want[id] {
			wrong = append(wrong, fmt.Sprintf("is   %s\nwant %s", got, want[id]))
		}
		delete(want, id)
	}
	for _, lacks := range want {
		wrong = append(wrong, "lacks "+lacks.String())
	}
	if bodies := len(slices.DeleteFunc(slices.Clone(m.rows), func(r *modelRow) bool { return !r.body() })); found.runs != bodies {
		wrong = append(wrong, fmt.Sprintf("there are %d task_runs, want %d", found.runs, bodies))
	}
	hosts := map[uuid.UUID]bool{}
	for _, h := range m.hosts {
		hosts[h.id] = h.live
	}
	if !maps.Equal(hosts, found.hosts) {
		wrong = append(wrong, fmt.Sprintf("the hosts are %v, want %v", found.hosts, hosts))
	}
	return strings.Join(wrong, "\n")
}
