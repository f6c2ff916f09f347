package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/amberhost/amber/functions"
)

// grace is how long requests have to end by themselves when the host is to stop.
// Those that wait for a run are then told to answer, and have as long again.
func (c Config) grace() time.Duration { return min(c.Drain/5, 5*time.Second) }

// serve runs the processor, the watcher and the HTTP server until ctx is done and
// notice of that was given, or until one of them fails, then stops them in order.
func (h *Host) serve(ctx context.Context, s *site, b *building, watcher *watcher) error {
	c := h.config
	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRunning()
	noticed, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	g, stopping := errgroup.WithContext(noticed)
	g.Go(func() error {
		h.giveNotice(ctx, stopping, b)
		leave()
		return nil
	})
	g.Go(func() error { return run(running, b.processor.Run) })
	if b.database.server != nil {
		g.Go(func() error { return b.database.server.Wait(stopping) })
	}
	if watcher != nil {
		g.Go(func() error { return watcher.run(stopping) })
	}
	g.Go(func() error {
		select {
		case err := <-s.ended:
			return fmt.Errorf("serve HTTP: %w", err)
		case <-stopping.Done():
			return nil
		}
	})
	g.Go(func() error {
		<-stopping.Done()
		s.turnAway() // before anybody hears that it drains
		b.draining.Store(true)
		c.Supervisor.tell(c.Log, notifyStopping)
		s.drain(c.grace())
		stopRunning()
		return nil
	})
	g.Go(func() error {
		c.Supervisor.watch(running, c.Log) // stopping takes its time, and is life
		return nil
	})
	defer s.end() // probes hear to the end that the host drains
	h.announce(b)
	s.open(h.gateway(b))
	select {
	case <-b.processor.Ready():
		c.Supervisor.tell(c.Log, notifyReady)
		c.Ready(c.info(s.address, b))
	case <-stopping.Done():
	}
	return h.wait(stopping, g)
}

// giveNotice waits until ctx is done. Then /ready says that the host drains, and
// all else is as before for [Config.DrainNotice], or until stopping is done. A host
// that was not ready yet has nobody to give notice to.
func (h *Host) giveNotice(ctx, stopping context.Context, b *building) {
	select {
	case <-ctx.Done():
	case <-stopping.Done():
		return
	}
	notice := h.config.DrainNotice
	select {
	case <-b.processor.Ready():
	default:
		notice = 0
	}
	if notice == 0 {
		return
	}
	b.draining.Store(true)
	h.config.Log.Info("the drain begins soon: /ready says so already, all else is served as before", "in", notice.String())
	select {
	case <-time.After(notice):
	case <-stopping.Done():
	}
}

// run runs the processor, which is to end when it is told to and not before.
func run(ctx context.Context, f func(context.Context) error) error {
	err := f(ctx)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil
	case ctx.Err() == nil && err == nil:
		return errors.New("the processor ended by itself")
	case err != nil:
		return fmt.Errorf("run processor: %w", err)
	}
	return nil
}

// wait waits for g, but not for ever once it is stopping.
func (h *Host) wait(stopping context.Context, g *errgroup.Group) error {
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	<-stopping.Done()
	most := h.config.Drain + stopTimeout
	select {
	case err := <-done:
		return err
	case <-time.After(most):
		return fmt.Errorf("stop: still busy after %v", most)
	}
}

func (h *Host) gateway(b *building) *gateway {
	g := newGateway(h.config, b.functions, b.health)
	g.pages["/ready"] = b.serveReady
	g.pages["/metrics"] = g.serveMetrics(b.metrics.Handler())
	return g
}

// announce says in the log what is odd about the host: settings that mean
// nothing, and functions that everybody may call although they run given code or
// act for the service role, or that ask for no key.
func (h *Host) announce(b *building) {
	c := h.config
	for _, warning := range c.Warnings {
		c.Log.Warn(warning)
	}
	if known := c.publicKey(); known != "" && !c.Open {
		c.Log.Warn("the " + known + " is the one that every local Supabase project has: whoever reaches this host can do everything")
	}
	means := map[string]string{"publish": "publish tasks"}
	if !c.Open {
		means["quickjs"] = "run code of their own"
	}
	reads := map[string]string{"publish": "; such tasks read every key of the keystore", "quickjs": "; it reads every key of the keystore"}
	for _, f := range b.functions {
		does := cmp.Or(means[f.Name], "call "+f.Name)
		said := c.function(f.Name)
		switch {
		case said.Disabled:
			c.Log.Info("function disabled", "function", f.Name)
		case c.Open && f.Access == functions.Service:
			c.Log.Info("anybody on this machine may "+does+": this host is open", "function", f.Name)
		case !c.Open && said.Open:
			c.Log.Warn("anybody may "+does+", without a key: verify_jwt = false opens it"+reads[f.Name], "function", f.Name, "config", said.Where)
		}
	}
}
