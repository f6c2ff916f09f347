package stack

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// alarms are the timers of one body that ring in this process. They are
// answered in the order in which they are due, however late all of them are: a
// task sees its timers as JavaScript's event loop would have run them.
type alarms struct {
	pending map[uuid.UUID]alarm
	rung    map[uuid.UUID]time.Time // answered, though perhaps not yet committed
	ringing bool                    // a goroutine answers those that are due
}

type alarm struct {
	Timer
	at    time.Time
	clock *time.Timer
}

// remind answers timers when they are due, if this process still runs then.
// Timers further ahead than two sweeps are left to the sweep, which also
// repeats one whose answer has not been committed after so long.
func (p *Processor) remind(timers ...Timer) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range timers {
		if t.In > 2*p.cfg.Sweep || p.drains.Load() {
			continue
		}
		of := p.alarms[t.Parent]
		if of == nil {
			of = &alarms{pending: map[uuid.UUID]alarm{}, rung: map[uuid.UUID]time.Time{}}
			p.alarms[t.Parent] = of
		}
		if _, ok := of.pending[t.ID]; ok || !of.rung[t.ID].IsZero() {
			continue
		}
		of.pending[t.ID] = alarm{Timer: t, at: now.Add(t.In), clock: time.AfterFunc(max(t.In, 0), func() {
			p.submit(func(ctx context.Context) { p.ring(ctx, t.Parent) })
		})}
	}
}

// ring answers the timers of a body that are due.
func (p *Processor) ring(ctx context.Context, body uuid.UUID) {
	for {
		due := p.due(body)
		if len(due) == 0 {
			return
		}
		host := p.currentHost()
		for _, a := range due {
			if a.timer() && p.waking.acquire(ctx, body) == nil {
				e := a.ending()
				e.notes = p.noteTimer(a)
				p.post(ctx, host, e)
				p.waking.release()
			}
		}
		if body == uuid.Nil {
			p.wakeDue(ctx)
		}
		p.rung(body)
	}
}

// noteTimer is note for a timer.
func (p *Processor) noteTimer(a alarm) *notes {
	return p.note(notes{root: a.root, service: a.Service, method: a.Service, ready: a.at})
}

// due takes the timers of a body that are due, the first first, if no other
// goroutine is answering some. The caller calls rung when it has answered them.
func (p *Processor) due(body uuid.UUID) (due []alarm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.alarms[body]
	if of == nil || of.ringing {
		return nil
	}
	now := time.Now()
	for id, a := range of.pending {
		if !a.at.After(now) {
			due = append(due, a)
			delete(of.pending, id)
			of.rung[id] = now
		}
	}
	of.ringing = len(due) > 0
	slices.SortFunc(due, func(a, b alarm) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.CallID, b.CallID))
	})
	return due
}

func (p *Processor) rung(body uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alarms[body].ringing = false
}

// forgetRung forgets what rang two sweeps ago.
func (p *Processor) forgetRung() {
	then := time.Now().Add(-2 * p.cfg.Sweep)
	p.mu.Lock()
	defer p.mu.Unlock()
	for body, of := range p.alarms {
		maps.DeleteFunc(of.rung, func(_ uuid.UUID, at time.Time) bool { return at.Before(then) })
		if len(of.pending)+len(of.rung) == 0 && !of.ringing {
			delete(p.alarms, body)
		}
	}
}

// silence stops every alarm.
func (p *Processor) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range p.alarms {
		for _, a := range of.pending {
			a.clock.Stop()
		}
	}
	for _, clock := range p.deadlines {
		clock.Stop()
	}
}

// post delivers a reply without running the caller's body in this goroutine.
func (p *Processor) post(ctx context.Context, host Host, e Ending) {
	if f := p.frame(e.Parent); f != nil && f.host.ID == host.ID {
		switch f.put(e) {
		case putRun:
			p.work.Go(func() { p.run(ctx, f) })
			return
		case putRunning:
			return
		case putGone:
		}
	}
	p.complete(ctx, host, e)
}
