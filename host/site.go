package host

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/amberhost/amber/functions/wire"
)

// site is the HTTP server. It answers probes from the first moment, and requests
// once there is a gateway: those that come before wait for it.
type site struct {
	server  *http.Server
	address string
	gateway atomic.Pointer[gateway]
	opened  chan struct{} // closed when there is a gateway
	ended   chan error    // has what Serve returned
	cancel  context.CancelFunc
}

// startTime is how long a request waits for a host that starts.
const startTime = 10 * time.Second

// newSite serves on listener until the site is shut or closed.
func newSite(ctx context.Context, c Config, listener net.Listener) *site {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &site{address: listener.Addr().String(), opened: make(chan struct{}), ended: make(chan error, 1), cancel: cancel}
	s.server = &http.Server{
		Handler:     s,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
	c.Limits.apply(s.server)
	go func() { s.ended <- s.server.Serve(c.Limits.listener(listener)) }()
	return s
}

func (s *site) open(g *gateway) {
	s.gateway.Store(g)
	close(s.opened)
}

// ServeHTTP implements [http.Handler].
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g := s.gateway.Load(); g != nil {
		g.ServeHTTP(w, r)
		return
	}
	switch r.URL.Path {
	case "/health":
		wire.JSON(w, http.StatusOK, map[string]string{"status": "ok", "database": "starting"})
		return
	case "/ready":
		answerReady(w, readiness{Status: "starting", Database: "unknown", Schema: "unknown", Processor: "starting"})
		return
	}
	select {
	case <-s.opened:
		s.gateway.Load().ServeHTTP(w, r)
	case <-r.Context().Done():
		s.refuseStarting(w)
	case <-time.After(startTime):
		s.refuseStarting(w)
	}
}

func (s *site) refuseStarting(w http.ResponseWriter) {
	allowOrigins(w.Header())
	w.Header().Set("Retry-After", "1")
	refuse(w, refusal{Status: http.StatusServiceUnavailable, Code: "STARTING", Message: "The host is starting: try again in a moment"})
}

// shut takes no more requests and lets those there are end. After grace the rest
// are told to answer, and have as long again.
func (s *site) shut(grace time.Duration) {
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		err := s.server.Shutdown(ctx)
		cancel()
		if err == nil {
			break
		}
		s.cancel()
	}
	s.close()
}

// close ends what is left at once.
func (s *site) close() {
	s.cancel()
	_ = s.server.Close() // what is left has been told and does not listen
}
