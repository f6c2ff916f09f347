package stack

import (
	"context"

	"github.com/google/uuid"
)

// What a process begins, it has a slot and memory for (see room.go); what it has
// none for stays in the tables.

// read reads what may be large, when there is room for it.
func (p *Processor) read(ctx context.Context, f func() error) error {
	select {
	case p.reading <- struct{}{}:
		defer func() { <-p.reading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := p.room.replies.acquire(ctx, 0); err != nil {
		return err
	}
	return f()
}

// startSlot takes a slot for a run that is started here, if there is one: one of
// those that nothing else has, or else any.
func (p *Processor) startSlot(params StartParams) *slots {
	switch {
	case !p.running() || params.sleeps():
		return nil
	case p.starts.try(p.starts.most):
		return &p.starts
	case p.bodies.try(p.bodies.most):
		return &p.bodies
	}
	return nil
}

// admit makes room for a call that a slice made and reports whether there is
// any; the caller gives it back with dismiss.
func (p *Processor) admit(c Child) bool {
	switch {
	case c.TaskRun != uuid.Nil: // the caller is about to wait
		return p.room.replies.has(c.size()) && p.bodies.try(p.bodies.most+1)
	case !p.queue.try(callsQueued * p.cfg.MaxCalls):
		return false
	case !p.room.arguments.try(c.size()):
		p.queue.left.Store(true)
		p.vacate(&p.queue)
		return false
	}
	return true
}

func (p *Processor) dismiss(c Child) {
	switch {
	case c.Left, c.Refused != nil, c.sleeps():
	case c.TaskRun != uuid.Nil:
		p.vacate(&p.bodies)
	default:
		p.room.arguments.add(-c.size())
		p.vacate(&p.queue)
	}
}

// vacate gives a slot back, and has the tables searched if something waits there
// for it.
func (p *Processor) vacate(s *slots) {
	if s.give() {
		p.nudge()
	}
}
