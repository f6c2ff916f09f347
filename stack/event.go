package stack

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
)

// Event is something that has happened in this process, and that is committed unless
// its kind says otherwise: what metrics and traces are made of. What its kind does not
// have is zero. What SQL alone does is no event: calls that are called off with their
// caller, and what others change.
type Event struct {
	Kind EventKind
	At   time.Time

	StackRun uuid.UUID
	Parent   uuid.UUID // the body that made the call; uuid.Nil for a run's own body
	TaskRun  uuid.UUID // the run whose body it is; uuid.Nil for a call that is no body
	Root     uuid.UUID // the run from which all came; uuid.Nil if that is not at hand: see [Store.Roots]

	Service, Method string         // of the call; of a body tasks and execute
	Task            string         // whose body it is; of a call of a service, the task that made it
	Status          string         // of EventEnded
	Err             *service.Error // of EventEnded and EventTried
	Tries           int            // that failed before this one
	Began           time.Time      // this try; zero if nobody was asked. Of a body: when this host got it
	Trace           string         // the header traceparent with which the run was started
	Slice           Slicing        // the last one; of EventSuspended, EventEnded and EventTried

	Snapshot  int  // of EventSuspended: bytes that its snapshot takes in the tables
	Increment bool // of EventSuspended: to the snapshot before

	Transition string        // of EventCommit: start, suspend, end, retry or answer
	Outcome    string        // of EventCommit
	Took       time.Duration // of EventCommit, and how long the row of EventClaimed was free
}

// EventKind is what happened.
type EventKind int

// The kinds of [Event].
const (
	EventStarted   EventKind = iota + 1 // a run
	EventSuspended                      // a slice of a body that waits now
	EventEnded                          // a call, a timer or a body
	EventTried                          // a try of a call, or of a task that was called, failed and is followed by another
	EventCommit                         // one of the transactions above was tried
	EventClaimed                        // a row was taken from the tables
	EventLeaseLost                      // this host lost its lease, and all it held
)

// The outcomes of EventCommit.
const (
	CommitDone    = "done"
	CommitLost    = "lost"    // somebody else had gone on with the row, or ended it
	CommitRefused = "refused" // what was to be stored cannot be
	CommitFailed  = "failed"  // the database did not answer, or not well: what became of it is not known
)

// Slicing is when a slice ran.
type Slicing struct {
	From   SliceFrom
	Began  time.Time     // zero: it did not
	Waited time.Duration // until then, since what it waited for was there
	Ran    time.Duration
}

// SliceFrom is what a slice began from.
type SliceFrom int

// What slices begin from.
const (
	FromCode   SliceFrom = iota // the body's first one
	FromMemory                  // a snapshot that was at hand
	FromTables                  // one that was read
)

// notes are what the observer is told of an ending or an attempt besides what is
// committed.
type notes struct {
	root                  uuid.UUID
	service, method, task string
	trace                 string
	tries                 int
	began, at             time.Time
	ready                 time.Time // since when the caller's body could have gone on; zero: at
	slice                 Slicing
}

// note is nil where nobody observes.
func (p *Processor) note(n notes) *notes {
	if p.cfg.Observe == nil {
		return nil
	}
	if n.at.IsZero() {
		n.at = time.Now()
	}
	kept := n // what escapes is made here, and not where nobody observes
	return &kept
}

// noteCall is note for a call that task made.
func (p *Processor) noteCall(c Child, task string) *notes {
	return p.note(notes{root: c.Group, service: c.Call.Service, method: c.Call.Method(), task: task, tries: c.Tries})
}

// noteBody is note for the body of f.
func (p *Processor) noteBody(f *frame) *notes {
	b := f.body
	return p.note(notes{root: b.Root, service: serviceTasks, method: "execute", task: b.Task, trace: b.Trace, tries: b.Tries, began: b.claimedAt, slice: f.slicing})
}

// answered notes that a call which began then has been answered.
func (n *notes) answered(began time.Time) {
	if n != nil {
		n.began, n.at = began, time.Now()
	}
}

// came notes when the reply reached its caller's body.
func (n *notes) came() {
	if n != nil && n.ready.IsZero() {
		n.ready = time.Now()
	}
}

// event adds to e what n has.
func (n *notes) event(e Event) Event {
	if n == nil {
		return e
	}
	e.Root, e.Service, e.Method, e.Task, e.Trace, e.Tries, e.Began, e.At, e.Slice = n.root, n.service, n.method, n.task, n.trace, n.tries, n.began, n.at, n.slice
	return e
}

func (p *Processor) observe(e Event) {
	if p.cfg.Observe == nil {
		return
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	p.cfg.Observe(e)
}

// observeEnded tells of a committed ending.
func (p *Processor) observeEnded(e *Ending) {
	if p.cfg.Observe == nil {
		return
	}
	status, _, _ := outcome(*e)
	p.observe(e.notes.event(Event{Kind: EventEnded, StackRun: e.ID, Parent: e.Parent, TaskRun: e.TaskRun, Task: e.Task, Status: status, Err: e.Reply.Err}))
}

// observeCommit tells of a transaction that was tried.
func (p *Processor) observeCommit(transition string, began time.Time, err error) {
	if p.cfg.Observe == nil {
		return
	}
	e := Event{Kind: EventCommit, Transition: transition, Outcome: CommitDone, Took: time.Since(began)}
	switch {
	case err == nil:
	case errors.Is(err, ErrClaimLost):
		e.Outcome = CommitLost
	case refused(err):
		e.Outcome = CommitRefused
	default:
		e.Outcome = CommitFailed
	}
	p.observe(e)
}

// observeClaim tells of a row that was claimed.
func (p *Processor) observeClaim(c Claim) {
	p.observe(Event{Kind: EventClaimed, StackRun: c.ID, Parent: orNil(c.row.ParentStackRunID), TaskRun: orNil(c.row.ChildTaskRunID),
		Service: c.row.ServiceName, Tries: c.row.Tries, Took: c.free})
}

// begins notes that a slice of f begins now.
func (p *Processor) begins(f *frame) {
	if p.cfg.Observe == nil {
		return
	}
	f.slicing.Began = time.Now()
	if !f.ready.IsZero() {
		f.slicing.Waited = max(0, f.slicing.Began.Sub(f.ready))
	}
}

// ran notes that the slice is over.
func (f *frame) ran() {
	if !f.slicing.Began.IsZero() {
		f.slicing.Ran = time.Since(f.slicing.Began)
	}
}

// since is when the caller's body could have gone on.
func (n *notes) since() time.Time {
	if n == nil {
		return time.Time{}
	}
	return n.ready
}

// observeStart tells of a run that was started, unless it was there or its caller is
// at fault.
func (p *Processor) observeStart(began time.Time, b Body, err error) {
	var refused *service.Error
	if p.cfg.Observe == nil || b.found || errors.As(err, &refused) {
		return
	}
	p.observeCommit("start", began, err)
	if err == nil {
		p.observe(Event{Kind: EventStarted, StackRun: b.ID, TaskRun: b.TaskRun, Root: b.Root, Task: b.Task, Trace: b.Trace})
	}
}
