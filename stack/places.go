package stack

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fair"
)

// places are for so many things at once. Those who wait for one wait in groups that
// take turns. It is safe for concurrent use.
type places struct {
	most int

	mu      sync.Mutex
	taken   int
	waiting fair.Queue[uuid.UUID, chan struct{}]
}

// acquire waits for a place. The caller gives it back with release.
func (p *places) acquire(ctx context.Context, group uuid.UUID) error {
	p.mu.Lock()
	if p.taken < p.most {
		p.taken++
		p.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	p.waiting.Push(group, mine)
	p.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-mine: // at this moment
		p.next()
	default:
		p.waiting.Remove(group, mine)
	}
	return context.Cause(ctx)
}

func (p *places) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next()
}

// next gives a place that is given back to whoever's turn it is.
func (p *places) next() {
	if p.waiting.Len() > 0 {
		close(p.waiting.Pop())
		return
	}
	p.taken--
}

func (p *places) busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// half is how many calls of a kind one suspension may have made here at once, of so
// many slots that are free: however many there are, others find some.
func half(free int) int { return max(free/2, 16) }

// admitAll makes room for calls that a slice made, as far as there is any. The
// others are left to any host.
func (p *Processor) admitAll(calls []Child) {
	bodies, services, left := half(p.bodies.free()), half(p.queue.free()), 0
	for i := range calls {
		c := &calls[i]
		share := &services
		switch {
		case c.Refused != nil, c.sleeps():
			continue
		case c.TaskRun != uuid.Nil:
			share = &bodies
		}
		if *share > 0 && p.admit(*c) {
			*share--
			continue
		}
		if *share <= 0 {
			p.leftBehind(*c)
		}
		left++
		c.Left, c.Turn = true, left
	}
}

// leftBehind notes that a call is left to any host, so that this one looks for it.
func (p *Processor) leftBehind(c Child) {
	if c.TaskRun != uuid.Nil {
		p.bodies.left.Store(true)
	} else {
		p.queue.left.Store(true)
	}
}
