package host

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
)

// logged gives the request an id, serves it and logs one line about it, never
// what it or the answer says. A panic becomes a 500 that tells nothing.
func (g *gateway) logged(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	start := time.Now()
	id := uuid.Must(uuid.NewV7()).String()
	w.Header().Set("sb-request-id", id)
	recorded := &recorder{ResponseWriter: w}
	defer func() {
		trouble := recover()
		abort := trouble == http.ErrAbortHandler
		if trouble != nil && !abort {
			g.log.Error("panic in a request", "request", id, "err", trouble, "stack", string(debug.Stack()))
			abort = !recorded.fail()
		}
		g.log.Log(context.WithoutCancel(r.Context()), level(r, recorded.result()), "request", "request", id, "method", r.Method,
			"path", r.URL.Path, "status", recorded.result(), "bytes", recorded.written, "duration", time.Since(start))
		if abort {
			panic(http.ErrAbortHandler) // a client must not take half an answer for a whole one
		}
	}()
	next(recorded, r)
}

// level keeps those who only look out of sight: whoever watches a run does so
// several times a second.
func level(r *http.Request, status int) slog.Level {
	looks := r.Method == http.MethodGet || r.Method == http.MethodHead
	if looks && status < http.StatusBadRequest || r.URL.Path == "/health" || r.URL.Path == "/ready" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status  int // 0 until the header is written
	written int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(body []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(body)
	w.written += int64(n)
	return n, err
}

// Flush implements [http.Flusher], for functions that stream.
func (w *recorder) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for [http.ResponseController].
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// fail answers 500, if nothing has been answered yet.
func (w *recorder) fail() bool {
	if w.status != 0 {
		return false
	}
	for _, name := range []string{"Content-Length", "Content-Encoding", "ETag"} { // of what would have come
		w.Header().Del(name)
	}
	refuse(w, refusal{Status: http.StatusInternalServerError, Code: wire.CodeInternal,
		Message: "Request failed due to an internal server error"})
	return true
}

func (w *recorder) result() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
