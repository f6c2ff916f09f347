package stack

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/amberhost/amber/vm"
)

// Run registers this host, takes over what dead hosts left, and works until ctx
// ends. Then nothing more is begun: slices run to their next await and calls in
// flight to their ends, as far as the drain time goes, and everything still held
// is given back. What a slice or call brings after that is dropped. Run may be
// called once.
func (p *Processor) Run(ctx context.Context) error {
	if err := p.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it had started
		}
		return err
	}
	close(p.ready)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var loops sync.WaitGroup
	queries, cutOff := outlive(ctx, queryGrace)
	defer cutOff()
	loops.Go(func() { p.sweep(ctx, queries, work) })
	loops.Go(func() { p.upkeep(ctx, queries) })
	loops.Go(func() { p.remove(ctx, queries) })
	if !p.cfg.Poll {
		loops.Go(func() { p.listen(ctx) })
	}
	lease, lapse := context.WithCancel(context.WithoutCancel(ctx)) // kept until the end
	defer lapse()
	var renewal sync.WaitGroup
	renewal.Go(func() { p.renew(lease) })
	p.dispatch(ctx, work)
	loops.Wait()
	p.drain(work, cancel)
	lapse()
	renewal.Wait()
	p.giveUp(work)
	return nil
}

// submit hands work to Run's context, and reports whether it is taken. After Run
// has stopped taking work it is dropped: its rows are given back by Release or Reap.
func (p *Processor) submit(job func(context.Context)) bool {
	select {
	case p.jobs <- job:
		return true
	case <-p.stopped:
		return false
	}
}

// dispatch starts submitted work until ctx ends.
func (p *Processor) dispatch(ctx, work context.Context) {
	defer close(p.stopped)
	for {
		select {
		case job := <-p.jobs:
			p.work.Go(func() { job(work) })
		case <-ctx.Done():
			p.drains.Store(true)
			return
		}
	}
}

// queryGrace is how long a statement of the loops may take when they are told to stop.
const queryGrace = 2 * time.Second

// drainGrace is how long work that was told to stop may take to do so: a service
// may not listen.
const drainGrace = time.Second

// drain waits for work to come to rest within the drain time. Slices that have
// not by then are stopped, and go on elsewhere from their last snapshot.
func (p *Processor) drain(work context.Context, cancel context.CancelFunc) {
	p.silence()
	rest := make(chan struct{})
	go func() { p.work.Wait(); close(rest) }()
	select {
	case <-rest:
		return
	case <-time.After(p.cfg.Drain):
	}
	slices, calls := p.busy()
	p.cfg.Log.Warn("drain time is over: what has not come to rest is left to other hosts", "slices", slices, "calls", calls)
	cancel()
	select {
	case <-rest:
	case <-time.After(drainGrace):
	}
}

// giveUp gives back what is still held.
func (p *Processor) giveUp(work context.Context) {
	land, done := mustLand(work)
	defer done()
	if err := p.cfg.Store.Release(land, p.currentHost()); err != nil {
		p.cfg.Log.Error("release: what this host held is free when its lease has run out", "err", err)
	}
}

// sweep searches the tables on every hint and once per interval: this is what
// correctness rests on.
func (p *Processor) sweep(ctx, queries, work context.Context) {
	for {
		if err := p.search(queries, work); err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("sweep", "err", err)
		}
		jitter := time.Duration(rand.Int64N(int64(p.cfg.Sweep)/5 + 1))
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-time.After(p.cfg.Sweep + jitter):
		}
	}
}

const batchSize = 100

// search does one round: what dead hosts held, what others queued, what is
// claimable, which timers are due soon.
func (p *Processor) search(ctx, work context.Context) error {
	freed, suspects, err := p.cfg.Store.Reap(ctx)
	if freed > 0 {
		p.cfg.Log.Info("freed what lost hosts held", "rows", freed)
	}
	if _, adoptErr := p.cfg.Store.Adopt(ctx, 10*batchSize); err == nil {
		err = adoptErr
	}
	if err == nil {
		var freed int
		if freed, err = p.cfg.Store.UnparkOpenable(ctx, 10*batchSize); freed > 0 {
			p.cfg.Log.Info("go on with what waited for a key that this host has", "rows", freed)
		}
	}
	more := true
	if err == nil {
		more, err = p.claim(ctx, work, suspects)
	}
	if err == nil {
		err = p.countQueued(ctx, more)
	}
	return errors.Join(err, p.schedule(ctx))
}

// The sweep reads so much of what is due within the next two of them. In between,
// when it searches the tables for another reason, the first of it is enough.
const (
	mostDue  = 500 * batchSize
	firstDue = 10 * batchSize
)

// schedule has what is due within the next two sweeps be done when it is.
func (p *Processor) schedule(ctx context.Context) error {
	p.forgetRung()
	most := firstDue
	if time.Since(p.scheduled) >= p.cfg.Sweep {
		most, p.scheduled = mostDue, time.Now()
	}
	timers, err := p.cfg.Store.Timers(ctx, 2*p.cfg.Sweep, most)
	p.remind(timers...)
	if err != nil {
		p.scheduled = time.Time{}
		return err
	}
	deadlines, err := p.cfg.Store.Deadlines(ctx, 2*p.cfg.Sweep, most)
	for _, d := range deadlines {
		p.expect(d, time.Now().Add(d.In))
	}
	return err
}

// claim takes what there are slots for, and one suspect, if there are any and none
// is at hand. left says that bodies may wait for which there were no slots.
func (p *Processor) claim(ctx, work context.Context, suspects bool) (left bool, err error) {
	if suspects && p.suspects.try(1) {
		host := p.currentHost()
		claims, err := p.cfg.Store.Claim(ctx, host, ClaimSuspects, 1)
		if len(claims) == 0 { // others have them, or they are parked
			p.suspects.give()
		}
		if err != nil {
			return true, err
		}
		for _, c := range claims {
			p.cfg.Log.Warn("working for a task during which hosts were lost", "stack_run", c.ID)
			p.observeClaim(c)
			p.slotsOf(c).take()
			p.work.Go(func() {
				defer p.vacate(&p.suspects)
				p.resume(work, host, c, func() {}) // at once: what it does is what is to be seen
			})
		}
	}
	for more := true; more && !p.draining(); {
		more = false
		for _, kind := range p.kinds() {
			if kind.limit == 0 {
				left = left || kind.ClaimKind != ClaimCalls
				continue
			}
			host := p.currentHost()
			claims, err := p.cfg.Store.Claim(ctx, host, kind.ClaimKind, kind.limit)
			if err != nil {
				return true, err
			}
			if kind.ClaimKind != ClaimCalls {
				left = len(claims) == kind.limit
			}
			for _, c := range claims {
				p.observeClaim(c)
				p.slotsOf(c).take()
				p.atHand.take()
				p.work.Go(func() { p.resumeInTurn(work, host, c) })
			}
			more = more || len(claims) == kind.limit
		}
	}
	return left, nil
}

// claimKind is how many rows of a kind this host can take now.
type claimKind struct {
	ClaimKind
	limit int
}

// kinds is one kind while there are slots for any rows, else two: for each kind
// that there are none for, it notes that some may be left. Few are claimed at a time.
func (p *Processor) kinds() []claimKind {
	most := min(p.atHand.free(), batchSize)
	if most == 0 {
		p.atHand.left.Store(true)
		return []claimKind{{ClaimAll, 0}}
	}
	bodies, calls := p.bodies.free(), p.queue.free()
	if min(bodies, calls) >= most {
		return []claimKind{{ClaimAll, most}}
	}
	if bodies == 0 {
		p.bodies.left.Store(true)
	}
	if calls == 0 {
		p.queue.left.Store(true)
	}
	return []claimKind{{ClaimBodies, min(bodies, most)}, {ClaimCalls, min(calls, most)}}
}

// slotsOf are those that a claimed row takes one of.
func (p *Processor) slotsOf(c Claim) *slots {
	if c.Task() {
		return &p.bodies
	}
	return &p.queue
}

// resume runs what was claimed from the tables and has a slot, which it gives back.
// It calls entered when others may have its place on the way from the tables.
func (p *Processor) resume(ctx context.Context, host Host, c Claim, entered func()) {
	defer p.vacate(p.slotsOf(c))
	defer entered()
	done := p.working(c.ID, "about to be read")
	if !c.Task() && p.room.arguments.acquire(ctx, 0) != nil {
		done()
		return
	}
	var f *frame
	err := p.read(ctx, func() error {
		err := p.cfg.Store.Open(ctx, host, &c)
		if err == nil && c.Body != nil {
			c.Body.ready = c.Body.claimedAt.Add(-c.free)
			f = p.newFrame(host, c.Body)
		}
		return err
	})
	if f != nil || err != nil {
		done()
	}
	if err != nil {
		p.unreadable(ctx, host, c.ID, err)
		return
	}
	if f != nil {
		f.entered = entered
		p.carry(ctx, f)
		return
	}
	entered()
	bytes := Child{Call: c.Call.Call}.size()
	p.room.arguments.add(bytes)
	p.answerClaimed(ctx, host, c)
	p.room.arguments.add(-bytes)
	done()
}

// answerClaimed makes a claimed call.
func (p *Processor) answerClaimed(ctx context.Context, host Host, c Claim) {
	if p.draining() {
		p.yield(ctx, host, c.ID, Child{attempt: c.row.Attempt}.slice())
		return
	}
	ch := p.child(vm.Call{ID: c.Call.CallID, Call: c.Call.Call}, 0)
	ch.ID, ch.Sent, ch.Tries, ch.Deadline, ch.Group, ch.attempt = c.Call.ID, c.Call.Key, c.Call.Tries, c.Call.Deadline, c.Call.Root, c.row.Attempt
	if c.Call.Refused != nil {
		ch.Refused = c.Call.Refused
	}
	var e Ending
	var again *Attempt
	switch {
	case ch.Refused != nil:
		e = ch.ending()
		e.Parent, e.Reply.Err, e.notes = c.Call.Parent, ch.Refused, p.noteCall(ch, c.Call.Task)
	case ch.Timer: // somebody made a sleeping row pending: it has slept enough
		args, _ := ch.args() // cannot fail: they were read from JSON
		e = Timer{ID: ch.ID, Parent: c.Call.Parent, CallID: ch.CallID, Service: ch.Call.Service, Args: args}.ending()
		e.notes = p.noteCall(ch, "")
	default:
		e, again = p.answer(ctx, c.Call.Parent, c.Call.TaskRun, c.Call.Task, c.Call.Caller, ch)
	}
	if ctx.Err() != nil || e.gone {
		p.room.replies.add(-e.reserved)
		return
	}
	if again != nil {
		p.again(ctx, host, ch.Call.Service, nil, *again)
		return
	}
	if f := p.frame(e.Parent); f != nil && f.host.ID == host.ID {
		p.deliver(ctx, f, e)
		return
	}
	p.complete(ctx, host, e)
}

// nudge hints that something may be claimable.
func (p *Processor) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
