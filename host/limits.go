package host

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/amberhost/amber/functions/wire"
)

// Limits are what a client may take its time for. The zero value means the
// defaults. The time that a function works is not limited: clients may prefer to wait.
type Limits struct {
	HeaderTime time.Duration // to send a request's line and headers; 0 means 10 s
	BodyTime   time.Duration // to send its body; 0 means 60 s
	WriteTime  time.Duration // to take the next 64 KB of an answer; 0 means 30 s
	IdleTime   time.Duration // between requests on one connection; 0 means 2 min
}

// What a request may at most have before its body, in bytes; net/http refuses
// more headers by itself.
const (
	maxHeader      = 64 << 10
	maxHeaderLines = 256
	maxTarget      = 16 << 10 // path and query
)

func (l Limits) withDefaults() Limits {
	orDefault := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	orDefault(&l.HeaderTime, 10*time.Second)
	orDefault(&l.BodyTime, 60*time.Second)
	orDefault(&l.WriteTime, 30*time.Second)
	orDefault(&l.IdleTime, 2*time.Minute)
	return l
}

// apply sets the limits that net/http keeps.
func (l Limits) apply(s *http.Server) {
	s.ReadHeaderTimeout = l.HeaderTime
	s.IdleTimeout = l.IdleTime
	s.MaxHeaderBytes = maxHeader
}

// inBounds refuses a request for what it has before its body.
func inBounds(r *http.Request) *refusal {
	if len(r.RequestURI) > maxTarget {
		return &refusal{Status: http.StatusRequestURITooLong, Code: "URI_TOO_LONG",
			Message: fmt.Sprintf("Path and query are larger than %d bytes: send what is long in the body", maxTarget)}
	}
	lines := 0
	for _, values := range r.Header {
		lines += len(values)
	}
	if lines > maxHeaderLines {
		return &refusal{Status: http.StatusRequestHeaderFieldsTooLarge, Code: "TOO_MANY_HEADERS",
			Message: fmt.Sprintf("The request has more than %d headers", maxHeaderLines)}
	}
	return nil
}

// limit bounds the size of the body, also of what it decompresses to, and the
// time it may take. It answers by itself, and returns false, if the client says
// that it will send what is not taken.
func (g *gateway) limit(w http.ResponseWriter, r *http.Request) bool {
	if r.Body == nil || r.Body == http.NoBody {
		return true
	}
	// net/http lifts the deadline when the body has been read.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.limits.BodyTime)) // HTTP/1 and HTTP/2 can
	if r.ContentLength > g.bodyLimit {
		// A client that sees the connection close while it still sends would
		// not read why. One that waits for "100 Continue" is not asked to send.
		if r.Header.Get("Expect") == "" {
			_, _ = io.CopyN(io.Discard, r.Body, 4*g.bodyLimit)
		}
		wire.Fail(w, r, g.log, wire.TooLarge(g.bodyLimit))
		return false
	}
	r.Body = http.MaxBytesReader(w, r.Body, g.bodyLimit)
	if refused := decode(w, r, g.bodyLimit); refused != nil {
		refuse(w, *refused)
		return false
	}
	r.Body = &metered{ReadCloser: r.Body, inFlight: &g.inFlight, most: max(mostInFlight, 2*g.bodyLimit)}
	return true
}

// mostInFlight bounds what the large bodies of all requests under way have
// together: a body takes many times its size while it is worked for. Of each
// body the first smallBody bytes are free, so that ordinary requests are served
// whatever others send.
const (
	mostInFlight = 64 << 20
	smallBody    = 64 << 10
)

// metered counts what is read of a body until release.
type metered struct {
	io.ReadCloser
	inFlight *atomic.Int64
	most     int64
	read     int64
	charged  int64
}

func (b *metered) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if more := b.read - smallBody - b.charged; more > 0 {
		b.charged += more
		if b.inFlight.Add(more) > b.most {
			return 0, &wire.Problem{Status: http.StatusServiceUnavailable, Code: wire.CodeBusy,
				Message: "The host has as many large requests as it takes at once. Try again in a moment."}
		}
	}
	return n, err
}

// release gives back what the request's body was charged.
func release(r *http.Request) {
	if b, ok := r.Body.(*metered); ok {
		b.inFlight.Add(-b.charged)
	}
}

// listener closes connections whose clients do not take what they are sent.
// A deadline for each part of an answer, and not for the whole, lets a client
// wait long and read slowly, and not stand still.
func (l Limits) listener(inner net.Listener) net.Listener { return timedListener{inner, l.WriteTime} }

type timedListener struct {
	net.Listener
	writeTime time.Duration
}

func (l timedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return timedConn{conn, l.writeTime}, nil
}

type timedConn struct {
	net.Conn
	writeTime time.Duration
}

func (c timedConn) Write(p []byte) (written int, err error) {
	const part = 64 << 10
	for {
		if err := c.SetWriteDeadline(time.Now().Add(c.writeTime)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[:min(part, len(p))])
		written += n
		if p = p[n:]; err != nil || len(p) == 0 {
			return written, err
		}
	}
}
