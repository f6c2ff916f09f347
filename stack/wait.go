package stack

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// pollInterval is how often Wait looks for the end of a run that another host
// may be running; ends in this process are heard at once.
const pollInterval = 500 * time.Millisecond

// Wait returns the run when it has ended, or as it is when ctx is done.
// ErrRunNotFound if there is none.
func (p *Processor) Wait(ctx context.Context, id uuid.UUID) (Run, error) {
	run, err := p.look(ctx, id)
	if err != nil || run.Ended() {
		return run, err
	}
	end := make(chan struct{}, 1)
	p.watch(run.ID, end)
	defer p.unwatch(run.ID, end)
	for {
		run, err = p.look(ctx, run.ID)
		if err != nil || run.Ended() || ctx.Err() != nil {
			return run, err
		}
		select {
		case <-end:
		case <-time.After(pollInterval):
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
		if e.TaskRun == uuid.Nil {
			continue
		}
		p.mu.Lock()
		for end := range p.waiters[e.TaskRun] {
			select {
			case end <- struct{}{}:
			default:
			}
		}
		p.mu.Unlock()
	}
}
