package host

import (
	"context"
	"net"
	"net/http"
	"time"
)

// isProbe reports whether a request asks how the host is: those are answered
// while it drains, so that whoever routes requests here learns to stop, and whoever
// looks on sees the end.
func isProbe(r *http.Request) bool {
	return r.URL.Path == "/health" || r.URL.Path == "/ready" || r.URL.Path == "/metrics"
}

// drain turns requests away from now on, and lets those there are end. After
// grace the rest are told to answer, and have as long again. The port stays open,
// and so do connections: each is closed with its next answer, not before, so that
// no request is lost to a close.
func (s *site) drain(grace time.Duration) {
	s.turnAway()
	for range 2 {
		select {
		case <-s.quiet:
			return
		case <-time.After(grace):
			s.cancel()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.underWay {
		conn.Close() // it has been told and does not listen
	}
}

// turnAway refuses requests from now on, but for probes.
func (s *site) turnAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	s.calm()
}

// lastAnswer is how long answers have to leave when the port closes.
const lastAnswer = time.Second

// end closes the port, and then what is left.
func (s *site) end() {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswer)
	defer cancel()
	_ = s.server.Shutdown(ctx)
	s.close()
}

// connOf is where a request's context has its connection.
type connOf struct{}

// enter notes that a request is under way, unless the host drains.
func (s *site) enter(r *http.Request) bool {
	conn, _ := r.Context().Value(connOf{}).(net.Conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.underWay[conn] = true // HTTP/1 has one request at a time
	}
	return !s.draining
}

// leave takes back enter.
func (s *site) leave(r *http.Request) {
	conn, _ := r.Context().Value(connOf{}).(net.Conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.underWay, conn)
	s.calm()
}

// calm says that the site is quiet, if it is. s.mu is held.
func (s *site) calm() {
	if !s.draining || len(s.underWay) > 0 {
		return
	}
	select {
	case <-s.quiet:
	default:
		close(s.quiet)
	}
}

// parts reports whether answers are the last of their connections.
func (s *site) parts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// parting closes connections behind answers that are given while the host drains.
type parting struct {
	http.ResponseWriter
	site *site
}

// WriteHeader implements [http.ResponseWriter]. An answer that begins without it
// leaves its connection to the next one.
func (w *parting) WriteHeader(status int) {
	if w.site.parts() {
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (w *parting) Unwrap() http.ResponseWriter { return w.ResponseWriter }
