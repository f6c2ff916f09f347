package stack

import (
	"context"
	"fmt"
	"time"
)

// begin makes the database ready for this host, and this host known to it. It
// waits for a database that is away.
func (p *Processor) begin(ctx context.Context) error {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := p.introduce(ctx)
		if err == nil || !Unavailable(err) || ctx.Err() != nil {
			return err
		}
		p.cfg.Log.Warn("start: the database is away", "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (p *Processor) introduce(ctx context.Context) error {
	if err := p.cfg.Store.CheckKeys(ctx); err != nil {
		return err
	}
	if err := p.saveImage(ctx); err != nil {
		return err
	}
	if err := p.cfg.Store.forgetCounts(ctx); err != nil {
		return err
	}
	return p.register(ctx, p.cfg.Exclusive)
}

// saveImage stores the image that this host's snapshots are deltas against, so
// that any host can resume them, unless it is there.
func (p *Processor) saveImage(ctx context.Context) error {
	image := p.cfg.Engine.Image()
	digest := image.Digest()
	known, err := p.cfg.Store.UseImage(ctx, digest[:])
	if err != nil || known {
		return err
	}
	data, err := image.Encode()
	if err != nil {
		return fmt.Errorf("encode image: %w", err)
	}
	return p.cfg.Store.SaveImage(ctx, digest[:], p.cfg.Engine.Identity(), data)
}

// Ready is closed when Run has registered this host: runs that are started from
// then on run here at once, earlier ones are queued.
func (p *Processor) Ready() <-chan struct{} { return p.ready }

func (p *Processor) register(ctx context.Context, exclusive bool) error {
	host, err := p.cfg.Store.Register(ctx, p.self(), p.cfg.Lease, exclusive)
	if err != nil {
		return err
	}
	p.host.Store(&host)
	return nil
}

func (p *Processor) currentHost() Host {
	if h := p.host.Load(); h != nil {
		return *h
	}
	return p.self()
}

// self is what this host is, whatever its incarnation.
func (p *Processor) self() Host {
	return Host{Name: p.cfg.HostName, Engines: p.cfg.Engine.Identities(), Memory: p.cfg.Engine.MaxMemory()}
}

func (p *Processor) running() bool  { return p.host.Load() != nil && !p.drains.Load() }
func (p *Processor) draining() bool { return p.drains.Load() }
