package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/telemetry"
)

// scrape is what a collector gets.
func scrape(t *testing.T, m *telemetry.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// value is the sum over the series that have these labels, "name=value".
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (sum float64) {
	for _, m := range families[name].GetMetric() {
		has := 0
		for _, l := range m.GetLabel() {
			for _, want := range labels {
				if l.GetName()+"="+l.GetValue() == want {
					has++
				}
			}
		}
		if has == len(labels) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// TestNamesAreBounded: whatever tasks and services are called, and however many names
// there are, there are so many series and no more.
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics(telemetry.Sources{Services: []string{"echo"}})
	observe := func(task, svc string, err *service.Error) {
		if err != nil { // a nested task that is not published: there is this event alone
			m.Observe(stack.Event{Kind: stack.EventEnded, StackRun: uuid.New(), TaskRun: uuid.New(), Parent: uuid.New(), Task: task, Service: "tasks", Status: stack.StatusFailed, Err: err})
			return
		}
		e := stack.Event{At: time.Now(), StackRun: uuid.New(), TaskRun: uuid.New(), Parent: uuid.New(), Task: task, Service: "tasks", Status: stack.StatusCompleted,
			Began: time.Now(), Slice: stack.Slicing{Began: time.Now()}}
		for _, kind := range []stack.EventKind{stack.EventStarted, stack.EventSuspended, stack.EventEnded, stack.EventTried, stack.EventClaimed} {
			e.Kind = kind
			m.Observe(e)
		}
		e.Kind, e.TaskRun, e.Service, e.Slice = stack.EventEnded, uuid.Nil, svc, stack.Slicing{}
		m.Observe(e)
	}
	for i := range 1000 {
		observe(fmt.Sprint("unpublished", i), "echo", &service.Error{Code: service.CodeTaskNotFound})
	}
	observe("a task of ours", "echo", nil)
	observe("not UTF-8 \xff, and long "+strings.Repeat("x", 1000), "echo", nil)
	before := len(scrape(t, m)["amber_runs_ended_total"].GetMetric())
	for i := range 10_000 {
		observe(fmt.Sprint("task", i), fmt.Sprint("service", i), nil)
	}
	families := scrape(t, m)
	if before != 3 {
		t.Errorf("names of tasks that are not published take %d series", before)
	}
	if n := value(families, "amber_slices_total", "task=a task of ours"); n != 3 {
		t.Errorf("slices of a task that came early: %v, want 3", n)
	}
	if all, rest := value(families, "amber_slices_total"), value(families, "amber_slices_total", "task=other"); all != 3*10_002 || rest < 3*10_000-3*telemetry.MaxTasks {
		t.Errorf("%v slices, %v of them of others", all, rest)
	}
	if n := value(families, "amber_calls_total", "service=other"); n != 10_000 {
		t.Errorf("%v calls of services that there are not, want 10000", n)
	}
	for name, family := range families {
		if n := len(family.GetMetric()); strings.HasPrefix(name, "amber_") && n > 8*(telemetry.MaxTasks+2) {
			t.Errorf("%s has %d series", name, n)
		}
		if strings.HasPrefix(name, "amber_") && (family.GetHelp() == "" || family.GetType() == dto.MetricType_COUNTER && !strings.HasSuffix(name, "_total")) {
			t.Errorf("%s: %v, help %q", name, family.GetType(), family.GetHelp())
		}
	}
}

// TestDepthsAreAskedSeldom: the database is asked once, whoever looks how often, and
// what it does not answer is told.
func TestDepthsAreAskedSeldom(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	m := telemetry.NewMetrics(telemetry.Sources{Depths: func(context.Context, time.Duration) (stack.Depths, error) {
		asked.Add(1)
		return stack.Depths{Queued: 7, Parked: 5}, nil
	}})
	for range 10 {
		if f := scrape(t, m); value(f, "amber_queue_depth") != 7 || value(f, "amber_parked_runs") != 5 || value(f, "amber_database_up") != 1 {
			t.Fatalf("%v", f)
		}
	}
	if n := asked.Load(); n > 5 { // a slow machine may take more than some seconds for ten
		t.Errorf("asked %d times", n)
	}
	away := telemetry.NewMetrics(telemetry.Sources{Depths: func(ctx context.Context, _ time.Duration) (stack.Depths, error) {
		<-ctx.Done() // as a network that swallows everything
		return stack.Depths{}, errors.New("away")
	}})
	f := scrape(t, away)
	if value(f, "amber_database_up") != 0 || value(f, "amber_database_failures_total") != 1 || f["amber_database_up"] == nil || f["amber_queue_depth"] != nil || f["go_goroutines"] == nil {
		t.Errorf("%v", f)
	}
}
