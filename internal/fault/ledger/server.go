package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/amberhost/amber/service"
)

// asked is the body of POST /call.
type asked struct {
	Call service.Call `json:"call"`
	Meta service.Meta `json:"meta"`
}

// retryAfter is the header with RetryAfter, which is shorter than HTTP's own has words for.
const retryAfter = "Ledger-Retry-After"

// maxCall bounds the body of a call in bytes.
const maxCall = 1 << 20

// ServeHTTP answers POST /call with a [service.Reply], and GET /entries with all
// entries as lines of JSON.
func (l *Ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /call":
		l.serveCall(w, r)
	case "GET /entries":
		l.serveEntries(w)
	default:
		http.Error(w, "the ledger has POST /call and GET /entries", http.StatusNotFound)
	}
}

func (l *Ledger) serveCall(w http.ResponseWriter, r *http.Request) {
	var in asked
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCall)).Decode(&in); err != nil {
		http.Error(w, "the body is not a call: "+err.Error(), http.StatusBadRequest)
		return
	}
	e, err := l.Record(in.Call, in.Meta)
	reply := e.Answer
	var refused *service.Error
	switch {
	case errors.As(err, &refused):
		reply.Err = refused
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	select {
	case <-time.After(time.Duration(e.Ask.Delay) * time.Millisecond):
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if reply.Err != nil && reply.Err.Status == http.StatusTooManyRequests {
		w.Header().Set(retryAfter, RetryAfter.String())
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(reply) // whoever asked may be gone
}

func (l *Ledger) serveEntries(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/jsonl")
	for _, e := range l.Entries() {
		line, err := e.line()
		if err == nil {
			_, err = w.Write(line)
		}
		if err != nil {
			return
		}
	}
}

// Serve answers on a listener until ctx ends, and closes it. Calls under way
// are cut off then.
func (l *Ledger) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: l, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve ledger: %w", err)
	}
	return nil
}
