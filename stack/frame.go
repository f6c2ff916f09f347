package stack

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/vm"
)

// frame is a body that this process works for: one that runs, or one that
// waits for calls which run in this process. A body that waits for anything
// else has no frame and costs no memory.
type frame struct {
	host Host  // the incarnation under which it was taken: what its fences name
	body *Body // owned by the goroutine that runs the body

	mu      sync.Mutex
	inbox   []Ending // replies for the next slice
	taken   []Ending // those of this slice
	running bool     // a goroutine runs the body
	ended   bool     // the body has ended, as far as this process knows: replies wait in the inbox
	lost    bool     // somebody else goes on with the body: replies go to the tables
	refs    int      // calls of the body that run in this process

	entered func() // called once after the body's first commit here; nil: not

	ready   time.Time // since when the next slice could have begun
	slicing Slicing   // this one

	room *room // in which the frame has
	held int64 // bytes of replies, of its input too
	kept int64 // bytes of the body's snapshot while it waits
}

// newFrame makes a running frame for a body and lists it.
func (p *Processor) newFrame(host Host, b *Body) *frame {
	f := &frame{host: host, body: b, running: true, room: p.room, ready: b.ready}
	if f.ready.IsZero() {
		f.ready = b.claimedAt
	}
	f.hold(b.size())
	p.mu.Lock()
	p.frames[b.ID] = f
	p.mu.Unlock()
	return f
}

// frame returns the frame of a body, or nil.
func (p *Processor) frame(id uuid.UUID) *frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frames[id]
}

// working lists a call as being made until the returned function is called.
func (p *Processor) working(id uuid.UUID, what string) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight[id] = what
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.inFlight, id)
	}
}

// known are the rows that this process works for, and those that it has answered
// and that wait to be committed with their caller's next slice.
func (p *Processor) known() []uuid.UUID {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := make([]uuid.UUID, 0, len(p.frames)+len(p.inFlight)) // never nil: SQL would take it for unknown
	known = slices.AppendSeq(known, maps.Keys(p.inFlight))
	for id, f := range p.frames {
		known = append(known, id)
		f.mu.Lock()
		known = appendRows(appendRows(known, f.inbox), f.taken)
		f.mu.Unlock()
	}
	return known
}

// appendRows appends the rows that the endings end.
func appendRows(rows []uuid.UUID, endings []Ending) []uuid.UUID {
	for _, e := range endings {
		rows = appendRows(append(rows, e.ID), e.Settled)
	}
	return rows
}

// busy describes what this process works for at this moment: slices and calls.
func (p *Processor) busy() (slices, calls []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, f := range p.frames {
		f.mu.Lock()
		if f.running {
			slices = append(slices, fmt.Sprintf("%s (stack_run %s)", f.body.Task, id))
		}
		f.mu.Unlock()
	}
	for id, what := range p.inFlight {
		calls = append(calls, fmt.Sprintf("%s (stack_run %s)", what, id))
	}
	return slices, calls
}

// forget unlists a frame unless calls of its body run in this process.
func (p *Processor) forget(f *frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended && !f.lost && (f.refs > 0 || f.running) {
		return
	}
	f.hold(-f.held)
	f.keep(0)
	if p.frames[f.body.ID] == f {
		delete(p.frames, f.body.ID)
	}
}

// take returns the replies for the next slice, not too many bytes at once, and
// none before those that came earlier and are still in the tables. With
// nothing to do the frame stops running and work is false. late are replies to
// calls that somebody else has answered meanwhile.
func (f *frame) take() (settled, late []Ending, work bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.body.Replies); n > 0 && !f.body.Replies[n-1].last {
		f.taken = nil
		return nil, nil, true
	}
	taken, bytes := 0, int64(0)
	for _, e := range f.inbox {
		if bytes += e.size(); len(settled) > 0 && bytes > pieceBytes {
			break
		}
		taken++
		if slices.ContainsFunc(f.body.Replies, func(r Reply) bool { return r.ID == e.ID }) {
			late = append(late, e)
			f.hold(-e.size())
		} else {
			settled = append(settled, e)
		}
	}
	f.inbox, f.taken = slices.Clone(f.inbox[taken:]), settled
	if len(settled) > 0 && settled[0].notes != nil && !f.body.Held {
		f.ready = settled[0].notes.ready
	}
	if len(settled) == 0 && !f.body.Held {
		f.running = false
		return nil, late, false
	}
	return settled, late, true
}

// slice is what the next slice commits besides its outcome.
func (f *frame) slice(settled []Ending) Slice {
	attempt := f.body.attempt
	s := Slice{Sequence: f.body.Sequence, Held: f.body.Held, Settled: settled, attempt: &attempt}
	for _, r := range f.body.Replies {
		s.Delivered = append(s.Delivered, r.ID)
	}
	return s
}

// suspended notes a committed suspension. A snapshot that there is no room for is
// forgotten: the next slice reads it again.
func (f *frame) suspended(s *vm.Snapshot, after Suspended) {
	b := f.body
	b.Code, b.Input = "", nil // they are in it
	b.Snapshot, b.Sequence = s, int64(s.Sequence)
	b.Replies, b.Held = after.Replies, len(after.Replies) > 0
	f.ready = time.Now() // for those
	if after.Interrupt != "" {
		b.Interrupt, b.Deadline = after.Interrupt, after.Deadline
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	bytes := b.size()
	for _, e := range f.inbox {
		bytes += e.size()
	}
	f.hold(bytes - f.held)
	b.stored = int64(s.Stored())
	if !f.keep(b.stored) {
		b.Snapshot = nil
	}
}

// hold counts bytes of replies more, or less.
func (f *frame) hold(bytes int64) {
	f.held += bytes
	f.room.replies.add(bytes)
}

// keep counts the bytes of the body's snapshot, and reports whether there is room
// for them.
func (f *frame) keep(bytes int64) bool {
	f.room.snapshots.add(-f.kept)
	f.kept = 0
	if !f.room.snapshots.try(bytes) {
		return false
	}
	f.kept = bytes
	return true
}

// enter tells whoever brought the body here that it has committed.
func (f *frame) enter() {
	if f.entered != nil {
		f.entered()
		f.entered = nil
	}
}

// finish notes that the body has ended, though that is not yet committed:
// replies that come now are kept in case the commit fails.
func (f *frame) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.hold(-f.held) // they are the ending's now
}

// lose notes that somebody else goes on with the body, and returns the replies
// that no slice of this process has taken.
func (f *frame) lose() (late []Ending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = true
	late, f.inbox = f.inbox, nil
	f.hold(-f.held)
	return late
}

// What put tells the deliverer to do.
type putResult int

const (
	putRunning putResult = iota // nothing: whoever runs the body takes the reply
	putRun                      // run the body: the frame is now running
	putGone                     // the frame is lost: use the tables
)

// put hands a reply to the body. Unless the frame is lost, what was reserved for
// it is the frame's from then on.
func (f *frame) put(e Ending) putResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return putGone
	}
	e.notes.came()
	defer f.room.replies.add(-e.reserved)
	e.reserved = 0
	again := func(o Ending) bool { return o.ID == e.ID } // a timer that the sweep read before its end was committed
	if slices.ContainsFunc(f.inbox, again) || f.running && slices.ContainsFunc(f.taken, again) {
		return putRunning
	}
	f.inbox = append(f.inbox, e)
	if !f.ended {
		f.hold(e.size())
	}
	if f.running || f.ended {
		return putRunning
	}
	f.running = true
	return putRun
}

// retain counts a call of the body that runs in this process; release undoes it.
func (f *frame) retain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs++
}

func (p *Processor) release(f *frame) {
	f.mu.Lock()
	f.refs--
	f.mu.Unlock()
	p.forget(f)
}
