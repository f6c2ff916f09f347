package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// This file is the life of a task, top to bottom:
//
//	Start ─► run ─► slice ─► suspend ─► call (one goroutine per call) ─► deliver ─► run …
//	                     └─► finish ─► deliver to the caller's body, or complete
//
// A frame is a body that this process works for. Nothing here is trusted for
// correctness: every commit is fenced (see doc.go), what cannot go on here is
// given back (setback.go), and what a lost host leaves behind is claimed from
// the tables by the loops of loop.go.

// Start starts a run. Its body is run in this process at once if there is room,
// else it is queued for any host. Errors that the caller made are
// *service.Error with code TASK_NOT_FOUND or INVALID_INPUT; one with QUEUE_FULL says
// that too many runs wait already.
func (p *Processor) Start(ctx context.Context, params StartParams) (Run, error) {
	host, bytes := p.currentHost(), int64(len(params.Input)+len(params.Code))
	p.started.Store(time.Now().UnixNano())
	slot := p.startSlot(params)
	counted, err := p.admitStart(ctx, slot, params)
	if err != nil {
		return Run{}, err
	}
	hold := slot != nil
	if hold && !p.room.replies.try(bytes) {
		p.vacate(slot)
		hold = false
	}
	began := time.Now()
	body, err := p.cfg.Store.Start(ctx, host, params, hold)
	p.observeStart(began, body, err)
	if counted && (err != nil || body.found) {
		p.queued.Add(-1)
	}
	submitted := err == nil && hold && !body.found && p.submit(func(ctx context.Context) {
		defer p.vacate(slot)
		f := p.newFrame(host, &body)
		p.room.replies.add(-bytes) // they are the frame's
		p.carry(ctx, f)
	})
	if hold && !submitted {
		p.room.replies.add(-bytes)
		p.vacate(slot)
	}
	if err != nil {
		return Run{}, err
	}
	if params.sleeps() && !body.found {
		p.remind(Timer{ID: body.ID, Service: serviceTasks, In: max(params.Delay, time.Until(params.At))})
	}
	p.expect(Deadline{ID: body.ID, In: time.Until(body.Deadline)}, body.Deadline)
	return p.cfg.Store.Run(ctx, body.TaskRun)
}

// run carries a body from slice to slice until it has ended, or waits and no
// reply is at hand. The caller has made f running.
func (p *Processor) run(ctx context.Context, f *frame) {
	p.bodies.take()
	defer p.vacate(&p.bodies)
	p.carry(ctx, f)
}

// carry is run for a body that has a slot.
func (p *Processor) carry(ctx context.Context, f *frame) {
	for {
		if p.draining() {
			p.leave(ctx, f)
			return
		}
		settled, late, work := f.take()
		p.drop(ctx, f.host, late)
		if !work {
			p.forget(f)
			return
		}
		slice := f.slice(settled)
		out, err := p.slice(ctx, f, settled)
		if err != nil {
			p.stop(ctx, f, settled, err)
			return
		}
		slice.Logs = out.Logs
		if out.Ended {
			f.finish()
			p.finish(ctx, f, slice, out)
			f.enter()
			return
		}
		bytes := outcomeSize(out)
		p.room.outcomes.add(bytes)
		more := p.suspend(ctx, f, slice, out)
		f.enter()
		p.room.outcomes.add(-bytes)
		if !more {
			return
		}
	}
}

// slice runs the body's JavaScript until it ends or waits.
func (p *Processor) slice(ctx context.Context, f *frame, settled []Ending) (*vm.Outcome, error) {
	b := f.body
	f.slicing = Slicing{}
	defer f.ran()
	begins := func() {
		_ = p.room.outcomes.acquire(ctx, 0) // when ctx ends, so does the slice
		p.begins(f)
	}
	if b.begins() {
		if b.Code == "" {
			code, err := p.code(ctx, b)
			if e := (*service.Error)(nil); errors.As(err, &e) {
				e.Message += " Publish it; GET /functions/v1/tasks/list has the names there are."
				return &vm.Outcome{Ended: true, Err: e}, nil
			}
			if err != nil {
				return nil, err
			}
			b.Code = code
		}
		out, err := p.cfg.Engine.Start(ctx, vm.StartParams{Frame: b.ID, Name: b.Task, Code: b.Code, Input: b.Input,
			TaskRun: b.TaskRun.String(), StackRun: b.ID.String(), Sequence: uint64(b.Sequence), Group: b.Root, Begins: begins})
		return out, engineError(err)
	}
	restored := func() {}
	f.slicing.From = FromMemory
	if b.Snapshot == nil {
		f.slicing.From = FromTables
		if err := p.room.resumed.acquire(ctx, b.stored); err != nil {
			return nil, err
		}
		restored = sync.OnceFunc(func() {
			b.Snapshot = nil
			p.room.resumed.add(-b.stored)
		})
		defer restored()
		if err := p.cfg.Store.loadSnapshot(ctx, b); err != nil {
			return nil, err
		}
	}
	replies := make([]vm.Reply, 0, len(b.Replies)+len(settled))
	for _, r := range b.Replies {
		replies = append(replies, vm.Reply{ID: r.CallID, Reply: r.Reply})
	}
	for _, e := range settled {
		replies = append(replies, vm.Reply{ID: e.CallID, Reply: e.Reply})
	}
	out, err := p.cfg.Engine.ResumeThen(ctx, b.Root, b.ID, b.Snapshot, replies, func() { restored(); begins() })
	return out, engineError(err)
}

// errEngine marks an error of the engine: trying again here would not help.
var errEngine = errors.New("engine")

func engineError(err error) error {
	if err == nil || errors.Is(err, vm.ErrBusy) { // which it will not be for long
		return err
	}
	return fmt.Errorf("%w: %w", errEngine, err)
}

// suspend commits a slice that waits and sets its calls going. It reports
// whether the body is still ours to run when a reply comes.
func (p *Processor) suspend(ctx context.Context, f *frame, slice Slice, out *vm.Outcome) bool {
	b := f.body
	land, cancel := mustLand(ctx)
	defer cancel()
	calls := make([]Child, len(out.Calls))
	for i, c := range out.Calls {
		calls[i] = p.child(c, b.Depth)
		calls[i].inherit(b)
	}
	counted, err := p.countNested(land, b.Root, calls)
	if err != nil {
		p.nested.reserve(b.Root, counted)
		p.stop(ctx, f, slice.Settled, err)
		return false
	}
	p.admitAll(calls)
	began := time.Now()
	after, err := p.cfg.Store.Suspend(land, p.as(f.host), Suspension{ID: b.ID, TaskRun: b.TaskRun, Task: b.Task, Caller: b.Caller, Depth: b.Depth, Root: b.Root, Grace: p.cfg.Grace,
		Slice: slice, Snapshot: out.Snapshot, Calls: calls, Cancelled: out.Cancelled, Waits: len(out.Open)})
	p.observeCommit("suspend", began, err)
	if err != nil {
		for _, c := range calls {
			p.dismiss(c)
		}
		p.nested.reserve(b.Root, counted) // if it has landed after all, the tree may have so many more
		p.stop(ctx, f, slice.Settled, err)
		return false
	}
	f.suspended(out.Snapshot, after)
	p.ended(slice.Settled...)
	p.observe(Event{Kind: EventSuspended, StackRun: b.ID, Parent: b.Parent, TaskRun: b.TaskRun, Root: b.Root, Task: b.Task, Tries: b.Tries,
		Slice: f.slicing, Snapshot: out.Snapshot.Stored(), Increment: out.Snapshot.Increment()})
	for _, c := range calls {
		if after.Interrupt != "" && c.TaskRun == uuid.Nil { // it has ended already
			p.dismiss(c)
			continue
		}
		c.codeRow = after.codes[c.Task]
		p.launch(ctx, f, c)
	}
	return true
}

// launch sets a call going that a committed slice of f's body made.
func (p *Processor) launch(ctx context.Context, f *frame, c Child) {
	if c.Left {
		return // whoever claims it makes it
	}
	if p.draining() {
		p.dismiss(c)
		return // another host's: at once, or when Release gives it back
	}
	if c.sleeps() {
		t := Timer{ID: c.ID, CallID: c.CallID, Service: c.Call.Service, In: c.wait(), root: c.Group}
		if c.Timer {
			t.Parent, t.Args = f.body.ID, json.RawMessage("["+string(c.Call.Args()[0])+"]")
		}
		p.remind(t)
		p.expect(Deadline{ID: c.ID, In: time.Until(c.Deadline)}, c.Deadline)
		return
	}
	if c.TaskRun != uuid.Nil {
		p.expect(Deadline{ID: c.ID, In: time.Until(c.Deadline)}, c.Deadline)
	}
	f.retain()
	p.work.Go(func() {
		defer p.release(f)
		defer p.dismiss(c)
		p.call(ctx, f, c)
	})
}

// call makes one call and delivers its reply.
func (p *Processor) call(ctx context.Context, f *frame, c Child) {
	switch {
	case c.Refused != nil:
		e := c.ending()
		e.Parent, e.notes = f.body.ID, p.noteCall(c, f.body.Task)
		e.Reply.Err = c.Refused
		p.deliver(ctx, f, e)
	case c.TaskRun != uuid.Nil:
		p.carry(ctx, p.newFrame(f.host, c.body(f.body)))
	default:
		done := p.working(c.ID, f.body.Task+": "+display(c.Call))
		e, again := p.answer(ctx, f.body.ID, f.body.TaskRun, f.body.Task, f.body.Caller, c)
		done()
		switch {
		case ctx.Err() != nil, e.gone:
			p.room.replies.add(-e.reserved) // if the host is leaving, the call is made again elsewhere
		case again != nil:
			p.again(ctx, f.host, c.Call.Service, nil, *again)
		default:
			p.deliver(ctx, f, e)
		}
	}
}

// finish ends a body: in its caller's next commit if the caller is at hand,
// else in a commit of its own.
func (p *Processor) finish(ctx context.Context, f *frame, slice Slice, out *vm.Outcome) {
	b := f.body
	reply := service.Reply{Value: out.Result, Err: out.Err}
	if reply.Err == nil {
		reply = exactlyOne("result of task "+b.Task, reply)
	}
	if after, again := b.retry(reply.Err); again {
		p.forget(f)
		p.again(ctx, f.host, serviceTasks, f, Attempt{ID: b.ID, Tries: b.Tries, Began: time.Since(b.claimedAt), Err: reply.Err, After: after, TaskRun: b.TaskRun, Slice: slice,
			parent: b.Parent, notes: p.noteBody(f)})
		return
	}
	failed := reply.Err
	if b.Interrupt != "" { // whatever the task made of it
		reply = service.Reply{Err: p.cfg.Store.timeOver(ctx, p.cfg.Store.pool, b.ID, b.Parent, b.Interrupt)}
	}
	e := Ending{ID: b.ID, Parent: b.Parent, CallID: b.CallID, Reply: reply, TaskRun: b.TaskRun, Task: b.Task, Slice: slice,
		Interrupt: b.Interrupt, CancelOpen: len(out.Open)+len(out.Cancelled) > 0, from: f, notes: p.noteBody(f)}
	for _, c := range out.Calls {
		e.Unsent = append(e.Unsent, p.child(c, b.Depth))
	}
	e.Logs = append(append(e.Logs, tidiedBadly(b.Interrupt, failed)...), leftOpen(out, b.Interrupt != "")...)
	if failed != nil && b.Tries > 0 && b.Interrupt == "" {
		e.givenUp, e.tried = executeOf(b.Task), b.Tries+1
	}
	e.reserved = e.size()
	p.room.replies.add(e.reserved)
	p.forget(f)
	if caller := p.frame(b.Parent); caller != nil && caller.host.ID == f.host.ID {
		f.enter() // this goroutine may go on with the caller for long
		p.deliver(ctx, caller, e)
		return
	}
	p.complete(ctx, f.host, e)
}

// deliver hands a reply to its caller's body, which runs on in this goroutine
// unless it is running already.
func (p *Processor) deliver(ctx context.Context, f *frame, e Ending) {
	if p.cfg.Strict { // it hears of it by the tables
		p.complete(ctx, f.host, e)
		return
	}
	switch f.put(e) {
	case putRun:
		p.run(ctx, f)
	case putGone:
		p.complete(ctx, f.host, e)
	case putRunning:
	}
}

// complete ends a stack_run whose caller's body is not at hand, and resumes
// that body if it waits for nothing but this.
func (p *Processor) complete(ctx context.Context, host Host, e Ending) {
	defer p.room.replies.add(-e.reserved)
	e.reserved = 0
	land, cancel := mustLand(ctx)
	defer cancel()
	began := time.Now()
	resume, err := p.cfg.Store.Complete(land, p.as(host), e)
	p.observeCommit("end", began, err)
	switch {
	case errors.Is(err, ErrClaimLost) && p.interrupted(ctx, host, &e):
		p.complete(ctx, host, e)
		return
	case errors.Is(err, ErrClaimLost):
		p.cfg.Log.Debug("claim lost", "stack_run", e.ID)
		p.drop(ctx, host, e.owed())
		if e.Held { // as in stop
			p.yield(ctx, host, e.ID, e.Slice)
		}
		return
	case refused(err) && len(e.Settled) > 0: // one of them may be the cause: each on its own, then the body anew
		p.drop(ctx, host, e.owed())
		if e.Held {
			p.abandon(ctx, host, err, e.ID)
		}
		return
	case refused(err) && e.Reply.Err == nil: // the reply cannot be stored: say so instead
		e.Reply = service.Reply{Err: service.Errorf(service.CodeInvalidResult, "The result could not be stored: %v.", err)}
		p.complete(ctx, host, e)
		return
	case refused(err):
		p.park(ctx, host, e.ID, err)
		return
	case err != nil:
		p.abandon(ctx, host, err, append(bodies([]Ending{e}), e.ID, e.Parent)...)
		return
	}
	p.ended(e)
	if resume && !p.draining() {
		e.notes.came()
		p.work.Go(func() { p.hold(ctx, host, e.Parent, e.notes.since()) })
	}
}

// hold runs a body that a commit has given to this host, and that could have gone on
// since then.
func (p *Processor) hold(ctx context.Context, host Host, id uuid.UUID, ready time.Time) {
	done := p.working(id, "about to be read")
	entered, err := p.wakes(ctx, id)
	if err != nil {
		done()
		return
	}
	defer entered()
	var f *frame
	err = p.read(ctx, func() error {
		body, err := p.cfg.Store.Held(ctx, host, id)
		if err == nil {
			body.ready = ready
			f = p.newFrame(host, body)
		}
		return err
	})
	done()
	if err != nil {
		p.unreadable(ctx, host, id, err)
		return
	}
	f.entered = entered
	p.run(ctx, f)
}

// as is the host under which a commit is made.
func (p *Processor) as(host Host) Host {
	host.Leaving = p.draining()
	return host
}
