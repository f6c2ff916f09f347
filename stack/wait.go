package stack

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// A run that another host may be running is looked for at intervals that grow
// from the first to the last of these; ends in this process are heard at once.
const (
	firstPoll = 25 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
)

// Wait returns the run when it has ended, or as it is when ctx is done.
// ErrRunNotFound if there is none.
func (p *Processor) Wait(ctx context.Context, id uuid.UUID) (Run, error) {
	run, err := p.look(ctx, id)
	if err != nil || run.Ended() {
		return run, err
	}
	err = p.poll(ctx, run.ID, func() (bool, error) {
		run, err = p.look(ctx, run.ID)
		return run.Ended(), err
	})
	return run, err
}

// poll looks until the row with that id has ended, or ctx is done.
func (p *Processor) poll(ctx context.Context, id uuid.UUID, look func() (ended bool, err error)) error {
	end := make(chan struct{}, 1)
	p.watch(id, end)
	defer p.unwatch(id, end)
	for wait := firstPoll; ; wait = min(wait*3/2, lastPoll) {
		ended, err := look()
		if err != nil || ended || ctx.Err() != nil {
			return err
		}
		select {
		case <-end:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// look reads the run although the time to wait may be over.
func (p *Processor) look(ctx context.Context, id uuid.UUID) (Run, error) {
	land, cancel := mustLand(ctx)
	defer cancel()
	return p.cfg.Store.Run(land, id)
}

func (p *Processor) watch(id uuid.UUID, end chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiters[id] == nil {
		p.waiters[id] = map[chan struct{}]struct{}{}
	}
	p.waiters[id][end] = struct{}{}
}

func (p *Processor) unwatch(id uuid.UUID, end chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiters[id], end)
	if len(p.waiters[id]) == 0 {
		delete(p.waiters, id)
	}
}

// ended tells waiters and the observer of committed endings.
func (p *Processor) ended(endings ...Ending) {
	for _, e := range endings {
		p.ended(e.Settled...)
		p.observe(Event{Kind: EventEnded, StackRun: e.ID, TaskRun: e.TaskRun})
		p.tell(e.ID)
		p.tell(e.TaskRun)
	}
}

// tell wakes who waits for the end of a run or a row.
func (p *Processor) tell(id uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for end := range p.waiters[id] {
		select {
		case end <- struct{}{}:
		default:
		}
	}
}
