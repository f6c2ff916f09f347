package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/amberhost/amber/functions"
)

// drainTime is what requests have to end by themselves; those that wait for a
// run are then told to answer, and have as long again.
const drainTime = time.Second

// serve runs the processor, the watcher and the HTTP server until ctx is done
// or one of them fails, then stops them in order.
func (h *Host) serve(ctx context.Context, listener net.Listener, b *building, watcher *watcher) error {
	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRunning()
	requests, stopRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRequests()
	server := h.server(b, requests)

	g, stopping := errgroup.WithContext(ctx)
	g.Go(func() error { return run(running, b.processor.Run) })
	if b.database.server != nil {
		g.Go(func() error { return b.database.server.Wait(stopping) })
	}
	if watcher != nil {
		g.Go(func() error { return watcher.run(stopping) })
	}
	g.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-stopping.Done()
		drain(server, stopRequests)
		stopRunning()
		return nil
	})
	h.warnOpen(b)
	h.config.Ready(h.config.info("http://"+listener.Addr().String(), b))
	return wait(stopping, g)
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
func wait(stopping context.Context, g *errgroup.Group) error {
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	<-stopping.Done()
	select {
	case err := <-done:
		return err
	case <-time.After(stopTimeout):
		return fmt.Errorf("stop: still busy after %v", stopTimeout)
	}
}

func (h *Host) server(b *building, requests context.Context) *http.Server {
	return &http.Server{
		Handler:           newGateway(h.config, b.functions, b.health),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout, // no WriteTimeout: clients may prefer to wait
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(h.config.Log.Handler(), slog.LevelWarn),
	}
}

func drain(server *http.Server, stopRequests context.CancelFunc) {
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		err := server.Shutdown(ctx)
		cancel()
		if err == nil {
			return
		}
		stopRequests()
	}
	_ = server.Close() // what is left has been told and does not listen
}

// warnOpen names the functions that everybody may call although they run given
// code or act for the service role.
func (h *Host) warnOpen(b *building) {
	means := map[string]string{"publish": "publish tasks"}
	for _, f := range b.functions {
		if h.config.Open && f.Access == functions.Service {
			h.config.Log.Info("anybody on this machine may "+cmp.Or(means[f.Name], "call "+f.Name)+": this host is open", "function", f.Name)
		}
	}
}

// health says whether requests can be served.
func (b *building) health(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	state := map[string]string{"status": "ok", "database": "ok", "engine": b.engine.Identity()}
	if err := b.database.pool.Ping(ctx); err != nil {
		state["status"], state["database"] = "unavailable", "unreachable"
	}
	return state
}
