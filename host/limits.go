package host

import (
	"io"
	"net/http"
	"time"

	"github.com/amberhost/amber/functions/wire"
)

const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
)

// limit bounds the size of the body and the time it may take. It answers by
// itself, and returns false, if the client says that it will send too much.
func (g *gateway) limit(w http.ResponseWriter, r *http.Request) bool {
	if r.Body == nil || r.Body == http.NoBody {
		return true
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // HTTP/1 and HTTP/2 can
	if r.ContentLength > g.bodyLimit {
		// A client that sees the connection close while it still sends would
		// not read why. One that waits for "100 Continue" is not asked to send.
		if r.Header.Get("Expect") == "" {
			_, _ = io.CopyN(io.Discard, r.Body, 4*g.bodyLimit)
		}
		wire.Fail(w, r, g.log, wire.TooLarge(g.bodyLimit))
		return false
	}
	r.Body = &timedBody{http.MaxBytesReader(w, r.Body, g.bodyLimit), control}
	return true
}

// timedBody lifts the deadline once the body is read: a deadline that passes
// while the function works would cancel its request.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
