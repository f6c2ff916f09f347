package host_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/telemetry"
)

// spans is a collector of OpenTelemetry's that keeps what it gets.
type spans struct {
	*httptest.Server
	mu  sync.Mutex
	all []sent
}

// sent is a span, and which host sent it.
type sent struct {
	*otlp.Span
	host string
}

func (s sent) id() string     { return hex.EncodeToString(s.SpanId) }
func (s sent) parent() string { return hex.EncodeToString(s.ParentSpanId) }

// attribute is a text among its attributes.
func (s sent) attribute(name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func collect(t *testing.T) *spans {
	s := &spans{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request collector.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, resource := range request.ResourceSpans {
			host := ""
			for _, a := range resource.Resource.Attributes {
				if a.Key == "service.instance.id" {
					host = a.Value.GetStringValue()
				}
			}
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					s.all = append(s.all, sent{span, host})
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// named are those of that name, the earliest first.
func (s *spans) named(name string) (found []sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		if span.Name == name {
			found = append(found, span)
		}
	}
	slices.SortFunc(found, func(a, b sent) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	return found
}

// TestTraceAcrossHosts: a run that two hosts worked for is one trace, with its nested
// tasks, their calls and each try below it, and a link to whoever asked for it.
func TestTraceAcrossHosts(t *testing.T) {
	t.Parallel()
	to := collect(t)
	database, key := pgtest.New(t), newKey(t, "k")
	tasks := tasksDir(t, map[string]string{
		"outer.js": `module.exports = async (i, { tools }) => {
			await tools.tasks.execute('inner', 'before');
			await tools.sleep(i);
			return await tools.with({ retries: 1, backoff: 1 }).tasks.execute('inner', 'after') }`,
		"inner.js": `module.exports = async (name, { tools }) => {
			await tools.keystore.setKey('n', name, 'v');
			if (name === 'after' && !(await tools.keystore.hasKey('n', 'tried'))) {
				await tools.keystore.setKey('n', 'tried', 'yes');
				throw new Error('a secret of its author') }
			return name }`,
	})
	begin := func(name string) *running {
		c := ofServe(t, database, "AMBER_KEYS", key, "AMBER_HOST_NAME", name, "AMBER_TASKS", tasks, "OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
		c.AmberKeys, c.TasksDir = key, tasks
		r := serve(t, c)
		r.awaitBegun(t)
		return r
	}
	first := begin("first")
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	started := first.do(t, "POST", execute, `{"taskName":"outer","input":3000}`, service, "traceparent: "+traceparent)
	run := started.text(t, "taskRunId")
	if started.status != 202 {
		t.Fatalf("%d %s", started.status, started.body)
	}
	runSQL(t, database, `do $$ begin
		for i in 1..60000 loop
			exit when exists (select from public.stack_runs where service_name = 'sleep');
			perform pg_sleep(0.001);
		end loop; end $$`)
	if err := first.stop(); err != nil { // which sends what it has
		t.Fatal(err)
	}
	if n := len(to.named("call inner")); n != 1 {
		t.Errorf("the first host sent %d spans of inner when it stopped", n)
	}
	second := begin("second")
	if a := second.do(t, "GET", "/functions/v1/tasks/status/"+run, "", service, "Prefer: wait=60"); a.text(t, "status") != "completed" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	f := families{}
	for deadline := time.Now().Add(patience); f.value("amber_runs_ended_total", "task=outer") == 0 && time.Now().Before(deadline); { // told of when it is committed
		f = second.metrics(t, service)
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}

	roots := to.named("run outer")
	if len(roots) != 1 || roots[0].parent() != "" || roots[0].host != "second" || roots[0].attribute("amber.task_run") != run {
		t.Fatalf("spans of the run: %v", roots)
	}
	root := roots[0]
	if len(root.Links) != 1 || hex.EncodeToString(root.Links[0].TraceId)+"-"+hex.EncodeToString(root.Links[0].SpanId) != traceparent[3:52] {
		t.Errorf("links: %v", root.Links)
	}
	ids := map[string]sent{}
	for _, s := range to.all {
		if hex.EncodeToString(s.TraceId) != strings.ReplaceAll(run, "-", "") {
			t.Errorf("%s is in the trace %x", s.Name, s.TraceId)
		}
		if other, twice := ids[s.id()]; twice {
			t.Errorf("%s and %s have the same id", s.Name, other.Name)
		}
		ids[s.id()] = s
		if strings.Contains(s.String(), "secret") {
			t.Errorf("%s has the message of an error: %v", s.Name, s)
		}
		if s.StartTimeUnixNano > s.EndTimeUnixNano {
			t.Errorf("%s ends before it begins", s.Name)
		}
	}
	calls, keystore, tries := to.named("call inner"), to.named("call keystore.setKey"), to.named("attempt inner")
	if len(calls) != 2 || calls[0].host != "first" || calls[1].host != "second" || calls[0].parent() != root.id() || calls[1].parent() != root.id() {
		t.Fatalf("calls of inner: %v", calls)
	}
	if sleep := to.named("call sleep"); len(sleep) != 1 || sleep[0].parent() != root.id() || sleep[0].host != "second" {
		t.Errorf("sleep: %v", sleep)
	}
	if len(keystore) != 4 || keystore[0].parent() != calls[0].id() || keystore[1].parent() != calls[1].id() || keystore[3].parent() != calls[1].id() {
		t.Errorf("calls of the keystore: %v", keystore)
	}
	if len(tries) != 3 || tries[0].parent() != calls[0].id() || tries[1].parent() != calls[1].id() || tries[1].Status.GetCode() != otlp.Status_STATUS_CODE_ERROR ||
		tries[2].parent() != calls[1].id() || tries[2].Status.GetCode() == otlp.Status_STATUS_CODE_ERROR || tries[1].EndTimeUnixNano > tries[2].EndTimeUnixNano {
		t.Errorf("tries of inner: %v", tries)
	}
	for _, attempt := range to.named("attempt keystore.setKey") {
		if ids[attempt.parent()].Name != "call keystore.setKey" {
			t.Errorf("a try below %q", ids[attempt.parent()].Name)
		}
	}
	for name, wanted := range map[string]map[string]int{"slice outer": {root.id(): 4}, "slice inner": {calls[0].id(): 2, calls[1].id(): 4 + 3}} {
		got := map[string]int{}
		for _, s := range to.named(name) {
			got[s.parent()]++
		}
		for parent, n := range wanted {
			if got[parent] != n {
				t.Errorf("%s: %d below %s, want %d", name, got[parent], ids[parent].Name, n)
			}
		}
		if len(got) != len(wanted) {
			t.Errorf("%s: below %v, want %v", name, got, wanted)
		}
	}
}

// TestDeadCollector: a collector that is not there keeps no run and no drain waiting.
func TestDeadCollector(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	r := start(t, func(c *host.Config) {
		c.TasksDir = tasksDir(t, wireTasks)
		c.Drain = 2 * time.Second
		c.Traces = telemetry.Traces{Endpoint: gone.URL + "/v1/traces"}
	})
	if run := r.execute(t, `{"taskName":"nest","input":1}`); run.Status != "completed" {
		t.Errorf("%+v", run)
	}
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestTraceSettings: what is wrong with them is said before anything starts.
func TestTraceSettings(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.New(t), "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if err := host.New(c).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "amber speaks http/protobuf alone") {
		t.Errorf("Run: %v", err)
	}
}
