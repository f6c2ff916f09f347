package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/telemetry"
)

// Metrics have the names of tasks in them, and say how much they are used. So they are
// for the service role on the address of the API; whoever would rather give no key to
// what collects them has them served on an address of their own, which only that can
// reach.

// observe makes what hears of everything that happens.
func (b *building) observe(ctx context.Context, c Config, services map[string]service.Service) (err error) {
	if b.tracer, err = telemetry.NewTracer(ctx, c.Traces, b.hostName(c), b.store.Roots, c.Log); err != nil {
		return err
	}
	if b.tracer != nil {
		b.flush = c.grace() / 2
	}
	pool := b.database.pool
	b.metrics = telemetry.NewMetrics(telemetry.Sources{
		Services: slices.Sorted(maps.Keys(services)),
		Usage:    func() stack.Usage { return b.processor.Usage() }, // which is made after this
		Pool:     b.engine.Pool,
		Database: func() (used, idle, most int) {
			s := pool.Stat()
			return int(s.AcquiredConns()), int(s.IdleConns()), int(s.MaxConns())
		},
		Depths: b.store.Depths,
		Tracer: b.tracer,
	})
	return nil
}

// heard is for [stack.Config].
func (b *building) heard(e stack.Event) {
	b.metrics.Observe(e)
	b.tracer.Observe(e)
}

// sendLastSpans ends the tracer, which takes as much of the drain as is kept for that.
func (b *building) sendLastSpans(ctx context.Context) {
	if b.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.flush)
	defer cancel()
	b.tracer.Close(ctx)
}

// serveMetrics is the page of the API's address.
func (g *gateway) serveMetrics(metrics http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, refused := g.admit(functions.Function{Name: "metrics", Access: functions.Service}, r); refused != nil {
			if refused.Status == http.StatusForbidden && refused.Code == wire.CodeForbidden {
				refused.Message = "Metrics have the names of tasks in them: /metrics needs the service role key or a secret key, or an address of its own (metrics-listen)"
			}
			refuse(w, *refused)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		metrics.ServeHTTP(w, r)
	}
}

// metricsSite serves metrics on an address of their own; nil serves none.
type metricsSite struct{ server *http.Server }

// serveMetrics serves them there, if there is to be such an address.
func (h *Host) serveMetrics(ctx context.Context, b *building) (*metricsSite, error) {
	c := h.config
	if c.MetricsListen == "" {
		return nil, nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", c.MetricsListen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: choose another address for metrics with --metrics-listen or AMBER_METRICS_LISTEN", c.MetricsListen)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for metrics on %s: %w", c.MetricsListen, err)
	}
	b.metricsURL = "http://" + listener.Addr().String() + "/metrics"
	if at, _, _ := net.SplitHostPort(c.MetricsListen); !isLoopback(at) {
		c.Log.Info("whoever reaches it may read metrics, without a key", "address", listener.Addr().String())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", b.metrics.Handler())
	s := &metricsSite{&http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn)}}
	c.Limits.apply(s.server)
	go func() { // until it is closed
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.Log.Error("metrics are served no more", "address", listener.Addr().String(), "err", err)
		}
	}()
	return s, nil
}

// close ends it.
func (s *metricsSite) close() {
	if s != nil {
		_ = s.server.Close()
	}
}
