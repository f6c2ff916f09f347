package harness

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// fault is a way to spoil things. do returns when it is over.
type fault struct {
	name   string
	weight int
	do     func(ctx context.Context, p *play, h *hostProcess) error
}

var faults = []fault{
	{"kill -9", 4, func(_ context.Context, _ *play, h *hostProcess) error {
		return done(h.signal(syscall.SIGKILL, "killed"))
	}},
	{"told to leave", 6, func(_ context.Context, _ *play, h *hostProcess) error {
		return done(h.signal(syscall.SIGTERM, "told to leave"))
	}},
	{"stopped beyond its lease", 2, func(ctx context.Context, _ *play, h *hostProcess) error {
		if !h.signal(syscall.SIGSTOP, "") {
			return errNoFault
		}
		pause(ctx, Lease+Lease/2)
		return done(h.signal(syscall.SIGCONT, ""))
	}},
	{longStop, 1, func(ctx context.Context, _ *play, h *hostProcess) error {
		if !h.signal(syscall.SIGSTOP, "") {
			return errNoFault
		}
		go func() {
			pause(ctx, time.Minute)
			h.signal(syscall.SIGCONT, "")
		}()
		return nil
	}},
	{"connections cut", 8, func(_ context.Context, _ *play, h *hostProcess) error { return done(h.proxy.Cut() > 0) }},
	{"connections cut before commits", 8, func(ctx context.Context, p *play, h *hostProcess) error {
		return cutAtCommits(ctx, p, h, 1+p.rand.IntN(4), 0)
	}},
	{"connections cut after commits, before their answers", 8, func(ctx context.Context, p *play, h *hostProcess) error {
		return cutAtCommits(ctx, p, h, 0, 1+p.rand.IntN(4))
	}},
	{"silence of Postgres", 2, func(ctx context.Context, p *play, h *hostProcess) error {
		h.proxy.Silence()
		defer h.proxy.Speak()
		p.database.spoil(10 * time.Second)
		pause(ctx, time.Second+p.rand.around(time.Second))
		return nil
	}},
	{longSilence, 1, func(ctx context.Context, p *play, h *hostProcess) error {
		go func() {
			h.proxy.Silence()
			defer h.proxy.Speak()
			p.database.spoil(time.Minute)
			pause(ctx, 30*time.Second)
		}()
		return nil
	}},
	{"Postgres restarted, immediately", 1, func(ctx context.Context, p *play, _ *hostProcess) error {
		return p.database.restart(context.WithoutCancel(ctx))
	}},
	{failOver, 1, func(ctx context.Context, p *play, _ *hostProcess) error {
		return p.database.failOver(context.WithoutCancel(ctx), func(address string) {
			for _, h := range p.hosts {
				h.proxy.Move(address)
			}
		})
	}},
	{"Postgres read-only", 1, func(ctx context.Context, p *play, _ *hostProcess) error {
		if err := p.database.readOnly(ctx, true); err != nil {
			return err
		}
		for _, h := range p.hosts {
			h.proxy.Cut() // so that new connections have it
		}
		pause(ctx, 500*time.Millisecond+p.rand.around(500*time.Millisecond))
		err := p.database.readOnly(context.WithoutCancel(ctx), false)
		for _, h := range p.hosts {
			h.proxy.Cut()
		}
		return err
	}},
	{"no connections left", 1, func(ctx context.Context, p *play, _ *hostProcess) error {
		for _, h := range p.hosts {
			h.proxy.Cut()
		}
		release, n := p.database.fill(ctx)
		defer release()
		pause(ctx, 500*time.Millisecond+p.rand.around(500*time.Millisecond))
		return done(n > 0)
	}},
	{"hints lost", 4, func(ctx context.Context, p *play, _ *hostProcess) error { return p.database.deafen(ctx) }},
	{"hints a thousand times", 4, func(ctx context.Context, p *play, _ *hostProcess) error { return p.database.hint(ctx, 1000) }},
}

func done(ok bool) error {
	if !ok {
		return errNoFault
	}
	return nil
}

func cutAtCommits(ctx context.Context, p *play, h *hostProcess, before, after int) error {
	cuts := h.proxy.Cuts()
	h.proxy.CutAtCommits(before, after)
	pause(ctx, 200*time.Millisecond+p.rand.around(200*time.Millisecond))
	h.proxy.CutAtCommits(0, 0)
	return done(h.proxy.Cuts() > cuts)
}

// These take longer than all of a short run, or as long.
const (
	longStop    = "stopped for a minute"
	longSilence = "half a minute of silence of Postgres"
	failOver    = "fail-over to another Postgres"
)

// long is how many trees make a run a long one.
const long = 2000

// spoil does one fault after another until ctx ends.
func (p *play) spoil(ctx context.Context) {
	all := 0
	for _, f := range faults {
		all += f.weight
	}
	for ctx.Err() == nil {
		pause(ctx, p.rand.around(p.Every))
		n := p.rand.IntN(all)
		for _, f := range faults {
			if n -= f.weight; n >= 0 {
				continue
			}
			if p.Trees < long && slices.Contains([]string{longStop, longSilence, failOver}, f.name) {
				break
			}
			h := p.hosts[p.rand.IntN(len(p.hosts))]
			switch err := f.do(ctx, p, h); {
			case err == nil:
				p.count(p.report.Faults, f.name)
			case err != errNoFault && ctx.Err() == nil && !p.database.spoilt():
				p.odd(fmt.Sprintf("%s: %v", f.name, err))
			}
			break
		}
	}
}

// heal undoes what may not have been undone.
func (p *play) heal() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, h := range p.hosts {
		h.signal(syscall.SIGCONT, "")
		h.proxy.Speak()
		h.proxy.CutAtCommits(0, 0)
	}
	err := p.database.readOnly(ctx, false)
	for ; err != nil && ctx.Err() == nil; err = p.database.readOnly(ctx, false) { // its connections may be those from before a restart
		pause(ctx, 200*time.Millisecond)
	}
	if err != nil {
		p.odd(fmt.Sprintf("heal: %v", err))
	}
	for _, h := range p.hosts {
		h.proxy.Cut()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
