package stack

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fair"
)

// places are for so many things at once. Those who wait for one wait in groups that
// take turns. It is safe for concurrent use.
type places struct {
	most  int
	fewer func() int // if not nil, how many there are at the moment; at least 1, at most most

	mu      sync.Mutex
	taken   int
	waiting fair.Queue[uuid.UUID, chan struct{}]
}

// acquire waits for a place. The caller gives it back with release.
func (p *places) acquire(ctx context.Context, group uuid.UUID) error {
	p.mu.Lock()
	if p.taken < p.now() {
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

// now is how many places there are.
func (p *places) now() int {
	if p.fewer != nil {
		return p.fewer()
	}
	return p.most
}

func (p *places) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next()
}

// next gives a place that is given back, and those that have come up meanwhile, to
// whoever's turn it is.
func (p *places) next() {
	p.taken--
	for p.taken < p.now() && p.waiting.Len() > 0 {
		close(p.waiting.Pop())
		p.taken++
	}
}

func (p *places) busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// wakers is how many timers are answered, and bodies on the way from the tables to
// their next commit, at once. Thousands may be due at the same moment, and runs that
// are started meanwhile share processors and connections with these: they leave half
// of the processors to them. See BenchmarkTimers.
func (p *Processor) wakers() int {
	if time.Since(time.Unix(0, p.started.Load())) < startedLately {
		return max(1, runtime.GOMAXPROCS(0)/2)
	}
	return mostWakers()
}

func mostWakers() int { return max(4, 2*runtime.GOMAXPROCS(0)) }

// startedLately is how long after the start of a run more are looked out for.
const startedLately = 250 * time.Millisecond

// wakePatience is how long a body keeps its place among them. One that computes for
// long takes turns with others at the processors, and keeps nobody from waking.
const wakePatience = 250 * time.Millisecond

// wakes waits for a place for a body that comes from the tables. Whoever brings it
// calls entered when it has committed, any number of times.
func (p *Processor) wakes(ctx context.Context, group uuid.UUID) (entered func(), err error) {
	if err := p.waking.acquire(ctx, group); err != nil {
		return nil, err
	}
	release := sync.OnceFunc(p.waking.release)
	late := time.AfterFunc(wakePatience, release)
	return func() { late.Stop(); release() }, nil
}

// mostAtHand is how many rows that were claimed wait for a place among them, so that
// other hosts have the rest, and few are held that nobody runs: if this host were
// lost, they would be suspected of it, see crashes.go.
const mostAtHand = batchSize

// resumeInTurn is resume for rows that wait for a place.
func (p *Processor) resumeInTurn(ctx context.Context, host Host, c Claim) {
	entered, err := p.wakes(ctx, c.group())
	if p.atHand.give() {
		p.nudge()
	}
	if err != nil {
		p.vacate(p.slotsOf(c))
		return
	}
	p.resume(ctx, host, c, entered)
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
