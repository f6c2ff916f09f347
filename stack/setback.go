package stack

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/supabase/keys"
)

// This file is what becomes of work that cannot go on here: replies that nobody
// has committed are committed each on its own, and rows that this host holds go
// to any host, or, if no host could go on with them, are parked with the reason.

// leave gives up a body that this host will run no further, because it is
// leaving: its replies go to the tables, and the body to any host.
func (p *Processor) leave(ctx context.Context, f *frame) {
	late := f.lose()
	p.forget(f)
	p.drop(ctx, f.host, late)
	if f.body.Held {
		p.yield(ctx, f.host, f.body.ID, f.slice(nil))
	}
}

// unreadable deals with a row that is ours and could not be read.
func (p *Processor) unreadable(ctx context.Context, host Host, id uuid.UUID, err error) {
	switch {
	case errors.Is(err, ErrClaimLost), ctx.Err() != nil:
	case errors.Is(err, keys.ErrUnknownKey):
		p.pass(ctx, host, id, err)
	case errors.Is(err, errStuck):
		p.park(ctx, host, id, err)
	default:
		p.abandon(ctx, host, err, id)
	}
}

// stop ends the work on a body that cannot go on here.
func (p *Processor) stop(ctx context.Context, f *frame, settled []Ending, err error) {
	held := f.body.Held
	owed := append(settled, f.lose()...)
	p.forget(f)
	switch {
	case ctx.Err() != nil: // the host is leaving: Release gives everything back
	case held && (errors.Is(err, errEngine) || errors.Is(err, errStuck) || refused(err)):
		p.drop(ctx, f.host, owed)
		p.park(ctx, f.host, f.body.ID, err)
	case errors.Is(err, ErrClaimLost), errors.Is(err, errEngine), errors.Is(err, errStuck), refused(err):
		p.drop(ctx, f.host, owed) // only the replies are owed: whoever gets the last one resumes the body
		if held {                 // it was a reply that was lost: somebody else has answered the call
			p.yield(ctx, f.host, f.body.ID, f.slice(nil))
		}
	default:
		p.abandon(ctx, f.host, err, append(bodies(owed), f.body.ID)...)
	}
}

// bodies are the task bodies among endings, those settled within them included.
func bodies(endings []Ending) (ids []uuid.UUID) {
	for _, e := range endings {
		if e.TaskRun != uuid.Nil {
			ids = append(append(ids, bodies(e.Settled)...), e.ID)
		}
	}
	return ids
}

// drop commits the replies of a slice that lost its fence, each on its own.
func (p *Processor) drop(ctx context.Context, host Host, settled []Ending) {
	for _, e := range settled {
		p.complete(ctx, host, e)
	}
}

// pass leaves a row to hosts that have the key which this one turned out to lack.
func (p *Processor) pass(ctx context.Context, host Host, id uuid.UUID, reason error) {
	land, cancel := mustLand(ctx)
	defer cancel()
	passed, err := p.cfg.Store.Pass(land, host, id)
	switch {
	case err != nil:
		p.abandon(ctx, host, err, id)
	case !passed:
		p.park(ctx, host, id, reason)
	}
}

// park takes a body out of circulation, with the reason.
func (p *Processor) park(ctx context.Context, host Host, id uuid.UUID, reason error) {
	p.cfg.Log.Error("task cannot go on here", "stack_run", id, "err", reason)
	land, cancel := mustLand(ctx)
	defer cancel()
	if err := p.cfg.Store.Park(land, host, id, whyParked(reason)); err != nil && !errors.Is(err, ErrClaimLost) {
		p.abandon(ctx, host, err, id)
	}
}

// whyParked is a reason as people read it, who are told that the row is stuck
// wherever they see one.
func whyParked(reason error) string {
	why := strings.ReplaceAll(reason.Error(), errStuck.Error()+": ", "")
	if errors.Is(reason, keys.ErrUnknownKey) {
		why += ": start a host that has the key in AMBER_KEYS"
	}
	return why
}

// yield lets any host make a call, or go on with a body from its last snapshot.
func (p *Processor) yield(ctx context.Context, host Host, id uuid.UUID, slice Slice) {
	land, cancel := mustLand(ctx)
	defer cancel()
	if err := p.cfg.Store.Yield(land, host, id, slice); err != nil {
		p.abandon(ctx, host, err, id)
	}
}

// abandon gives rows back after a commit whose outcome is unknown, retrying
// until the database answers or the host leaves (then Release, or in the end
// Reap, does it). It waits first: what fails at once must not spin.
func (p *Processor) abandon(ctx context.Context, host Host, reason error, ids ...uuid.UUID) {
	p.cfg.Log.Warn("giving work back after an error", "stack_run", ids[0], "err", reason)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		var err error
		for _, id := range ids {
			if id != uuid.Nil {
				err = errors.Join(err, p.cfg.Store.Abandon(ctx, host, id))
			}
		}
		if err == nil {
			return // the rows' triggers wake whoever takes them
		}
	}
}
