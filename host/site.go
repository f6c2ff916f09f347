package host

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amberhost/amber/functions/wire"
)

// site is the HTTP server. It answers probes from the first moment to the last,
// and requests while there is a gateway: those that come before wait for it, those
// that come when the host drains are turned away.
type site struct {
	server  *http.Server
	address string
	gateway atomic.Pointer[gateway]
	opened  chan struct{} // closed when there is a gateway
	ended   chan error    // has what Serve returned
	cancel  context.CancelFunc

	mu       sync.Mutex
	draining bool
	underWay map[net.Conn]bool // that have a request which came before the drain
	quiet    chan struct{}     // closed when the host drains and nothing is under way
}

// startTime is how long a request waits for a host that starts.
const startTime = 10 * time.Second

// newSite serves on listener until the site is shut or closed.
func newSite(ctx context.Context, c Config, listener net.Listener) *site {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &site{address: listener.Addr().String(), opened: make(chan struct{}), ended: make(chan error, 1), cancel: cancel,
		underWay: map[net.Conn]bool{}, quiet: make(chan struct{})}
	s.server = &http.Server{
		Handler:     s,
		BaseContext: func(net.Listener) context.Context { return requests },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connOf{}, conn)
		},
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
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
	w = &parting{w, s}
	if s.enter(r) {
		defer s.leave(r)
	} else if !isProbe(r) {
		s.refuse(w, wire.CodeDraining, "The host is stopping: try again, another one may answer")
		return
	} else {
		r = r.WithContext(context.WithoutCancel(r.Context())) // that drain cancels is not for it
	}
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
		s.refuse(w, "STARTING", "The host is starting: try again in a moment")
	case <-time.After(startTime):
		s.refuse(w, "STARTING", "The host is starting: try again in a moment")
	}
}

func (s *site) refuse(w http.ResponseWriter, code, message string) {
	allowOrigins(w.Header())
	w.Header().Set("Retry-After", "1")
	refuse(w, refusal{Status: http.StatusServiceUnavailable, Code: code, Message: message})
}

// close ends what is left at once.
func (s *site) close() {
	s.cancel()
	_ = s.server.Close() // what is left has been told and does not listen
}
