package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/telemetry"
)

// BenchmarkObserve measures what it takes to hear of one nested call of a service in
// steady state: a slice that waits, its commit, and the end of the call. Of traces that
// is three spans, sent to a collector of this process that reads them and does nothing.
// cpu-µs/call is the processor time of all of it.
func BenchmarkObserve(b *testing.B) {
	root, body := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	call := func(observe func(stack.Event)) {
		now := time.Now()
		observe(stack.Event{Kind: stack.EventCommit, At: now, Transition: "suspend", Outcome: stack.CommitDone, Took: time.Millisecond})
		observe(stack.Event{Kind: stack.EventEnded, At: now, StackRun: uuid.Must(uuid.NewV7()), Parent: body, Root: root, Service: "echo", Method: "value", Task: "loop",
			Status: stack.StatusCompleted, Began: now})
		observe(stack.Event{Kind: stack.EventSuspended, At: now, StackRun: body, TaskRun: root, Root: root, Task: "loop", Snapshot: 5000,
			Slice: stack.Slicing{From: stack.FromMemory, Began: now, Ran: time.Millisecond, Waited: time.Microsecond}})
	}
	b.Run("metrics", func(b *testing.B) {
		m := telemetry.NewMetrics(telemetry.Sources{Services: []string{"echo"}})
		timed(b, func() { call(m.Observe) }, func() {})
	})
	b.Run("traces", func(b *testing.B) {
		collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
		defer collector.Close()
		t, err := telemetry.NewTracer(b.Context(), telemetry.Traces{Endpoint: collector.URL, Queue: "1000000"}, "bench", nil, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		timed(b, func() { call(t.Observe) }, func() { t.Close(context.Background()) })
	})
}

// timed reports the processor time of b.N times f, and what end takes then.
func timed(b *testing.B, f, end func()) {
	spent := func() int64 {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	before := spent()
	for range b.N {
		f()
	}
	end()
	b.ReportMetric(float64(spent()-before)/1000/float64(b.N), "cpu-µs/call")
}
