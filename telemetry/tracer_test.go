package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a collector that keeps what it gets.
type sink struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span
}

func newSink(t *testing.T) *sink {
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request collector.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, r.URL.Path, http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				s.spans = append(s.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// tracer returns one that sends to url, and what closes it.
func tracer(t *testing.T, traces telemetry.Traces, roots telemetry.Roots) (*telemetry.Tracer, func()) {
	t.Helper()
	tr, err := telemetry.NewTracer(t.Context(), traces, "here", roots, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return tr, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		tr.Close(ctx)
	}
}

// run is the event of a run that has ended.
func run(root uuid.UUID) stack.Event {
	return stack.Event{Kind: stack.EventEnded, At: time.Now(), StackRun: uuid.Must(uuid.NewV7()), TaskRun: root, Root: root, Service: "tasks", Method: "execute", Task: "t", Status: stack.StatusCompleted}
}

// TestPartOfRuns: of the runs, whose ids are UUIDv7, about the part is traced that was asked for.
func TestPartOfRuns(t *testing.T) {
	t.Parallel()
	for _, ratio := range []string{"0", "0.1", "0.6", "0.8", "1"} {
		t.Run(ratio, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			tr, end := tracer(t, telemetry.Traces{Endpoint: s.URL + "/v1/traces", Sampler: "traceidratio", Ratio: ratio}, nil)
			const runs = 2000
			for range runs {
				tr.Observe(run(uuid.Must(uuid.NewV7())))
			}
			end()
			want := map[string][2]int{"0": {0, 0}, "0.1": {120, 280}, "0.6": {1080, 1320}, "0.8": {1500, 1700}, "1": {runs, runs}}[ratio]
			if n := len(s.spans); n < want[0] || n > want[1] { // 5 standard deviations and more
				t.Errorf("%d of %d runs are traced, want %v", n, runs, want)
			}
		})
	}
}

// TestNobodyListens: a collector that does not answer costs spans, which are counted,
// and holds nobody up.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-stuck:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(stuck)
	tr, err := telemetry.NewTracer(t.Context(), telemetry.Traces{Endpoint: silent.URL, Queue: "100"}, "here", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		tr.Observe(run(uuid.Must(uuid.NewV7())))
	}
	m := telemetry.NewMetrics(telemetry.Sources{Tracer: tr})
	if n := value(scrape(t, m), "amber_spans_total", "outcome=dropped"); n < 5000-1000 || n > 5000-100 {
		t.Errorf("%v spans of 5000 were dropped, with room for 100", n)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 50*time.Millisecond)
	defer cancel()
	tr.Close(ctx) // or the test hangs
}

// TestLooksForRoots: the runs of events that do not know them are asked for, in few
// questions; of those that are gone nothing is written.
func TestLooksForRoots(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	root, gone := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	tr, end := tracer(t, telemetry.Traces{Endpoint: s.URL + "/v1/traces"}, func(_ context.Context, rows []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
		found := map[uuid.UUID]uuid.UUID{}
		for _, row := range rows {
			if row != gone {
				found[row] = root
			}
		}
		return found, nil
	})
	parent := uuid.Must(uuid.NewV7())
	timer := stack.Event{Kind: stack.EventEnded, At: time.Now(), StackRun: uuid.Must(uuid.NewV7()), Parent: parent, Service: "sleep", Method: "sleep", Status: stack.StatusCompleted}
	tr.Observe(timer)
	timer.StackRun = gone
	tr.Observe(timer)
	m := telemetry.NewMetrics(telemetry.Sources{Tracer: tr})
	end()
	if len(s.spans) != 1 || s.spans[0].Name != "call sleep" || uuid.UUID(s.spans[0].TraceId) != root || string(s.spans[0].ParentSpanId) != string(parent[8:]) {
		t.Errorf("spans: %v", s.spans)
	}
	if n := value(scrape(t, m), "amber_spans_total", "outcome=unrelated"); n != 1 {
		t.Errorf("%v spans are unrelated, want 1", n)
	}
}
