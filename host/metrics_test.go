package host_test

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/keys"
)

// families is what a collector makes of an answer.
type families map[string]*dto.MetricFamily

func (r *running) metrics(t *testing.T, headers ...string) families {
	t.Helper()
	a := r.do(t, "GET", "/metrics", "", headers...)
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%d %v %.500s", a.status, a.header, a.body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	f, err := parser.TextToMetricFamilies(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// value is the sum over the series that have these labels: "task=a".
func (f families) value(name string, labels ...string) (sum float64) {
	for _, m := range f[name].GetMetric() {
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

// series is "name label=value ...".
func (f families) series(text string) float64 {
	words := strings.Fields(text)
	return f.value(words[0], words[1:]...)
}

// TestMetrics: the figures of runs with nested calls, tries, timers and a claim that
// somebody else took.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *host.Config) {
		c.TasksDir = tasksDir(t, map[string]string{
			"outer.js": `module.exports = async (i, { tools }) => {
				await Promise.all([1, 2, 3].map((n) => tools.tasks.execute('inner', n)));
				await tools.with({ retries: 1, backoff: 1 }).tasks.execute('flaky');
				await tools.sleep(10);
				try { await tools.nosuch.thing() } catch {}
				try { await tools.tasks.execute('unpublished') } catch {}
				return 'done' }`,
			"inner.js": `module.exports = async (n, { tools }) => { await tools.keystore.setKey('n', 'k' + n, 'v'); return n }`,
			"flaky.js": `module.exports = async (i, { tools }) => {
				if (await tools.keystore.hasKey('n', 'tried')) return 1;
				await tools.keystore.setKey('n', 'tried', 'yes');
				throw new Error('once') }`,
			"busy.js":  `module.exports = async (i, { tools }) => { for (let n = 0; n < 3e6; n++); await tools.sleep(1); return 'busy' }`,
			"waits.js": wireTasks["never.js"],
		})
	})
	if run := r.execute(t, `{"taskName":"outer"}`); run.Status != "completed" {
		t.Fatalf("%+v", run)
	}
	r.do(t, "POST", execute, `{"taskName":"waits"}`)
	r.awaitSuspended(t)

	// While the slice runs, its row is freed, and claimed again.
	begun := r.do(t, "POST", execute, `{"taskName":"busy"}`)
	runSQL(t, r.info.DatabaseURL, `do $$ begin
		for i in 1..20000 loop
			update public.stack_runs set status = 'pending', claimed_by = null
				where child_task_run_id = '`+begun.text(t, "taskRunId")+`' and status = 'processing' and sequence = 0;
			exit when found;
			perform pg_sleep(0.001);
		end loop; end $$`)
	if a := r.do(t, "GET", "/functions/v1/tasks/status/"+begun.text(t, "taskRunId"), "", "Prefer: wait=60"); a.text(t, "status") != "completed" {
		t.Fatalf("busy: %d %s", a.status, a.body)
	}

	want := map[string]float64{
		"amber_runs_started_total task=outer":                             1,
		"amber_runs_ended_total task=outer status=completed nested=false": 1,
		"amber_runs_ended_total task=inner status=completed nested=true":  3,
		"amber_runs_ended_total task=flaky status=completed nested=true":  1,
		"amber_runs_ended_total task=flaky":                               1,
		"amber_runs_ended_total task=other status=failed nested=true":     1,
		"amber_calls_total service=tasks task=inner status=completed":     3,
		"amber_calls_total service=keystore task=inner status=completed":  3,
		"amber_calls_total service=keystore task=flaky status=completed":  3,
		"amber_calls_total service=sleep status=completed":                2,
		"amber_calls_total service=other task=outer status=failed":        1,
		"amber_attempts_total service=tasks outcome=retried":              1,
		"amber_attempts_total service=tasks outcome=completed":            4,
		"amber_attempts_total service=keystore outcome=completed":         6,
		"amber_attempt_duration_seconds service=keystore":                 6,
		"amber_slices_total task=inner":                                   6,
		"amber_slices_total task=flaky":                                   5,
		"amber_slices_total task=busy":                                    2,
		"amber_lost_claims_total":                                         1,
		"amber_lost_claims_total transition=suspend":                      1,
		"amber_commits_total transition=suspend outcome=lost":             1,
		"amber_commits_total transition=start outcome=done":               3,
		"amber_commits_total transition=retry outcome=done":               1,
		"amber_commits_total outcome=failed":                              0,
		"amber_runs_ended_total task=busy status=completed":               1,
		"amber_parked_runs":     1,
		"amber_sleeping_rows":   1,
		"amber_queue_depth":     0,
		"amber_stuck_runs":      0,
		"amber_hosts":           1,
		"amber_database_up":     1,
		"amber_bodies_limit":    1000,
		"amber_calls_in_flight": 0,
		"amber_build_info":      1,
	}
	var f families
	var wrong []string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // what is counted after it is committed, and a run that has just ended
		f, wrong = r.metrics(t), nil
		for series, n := range want {
			if got := f.series(series); got != n {
				wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", series, got, n))
			}
		}
		if len(wrong) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, w := range wrong {
		t.Error(w)
	}
	// What stands in several places agrees.
	slices, resumes := f.value("amber_slices_total"), f.value("amber_resumes_total")
	if starts := f.value("amber_wake_latency_seconds", "of=start"); slices != resumes+starts || f.value("amber_slice_duration_seconds") != slices {
		t.Errorf("%v slices, %v resumed, %v started", slices, resumes, starts)
	}
	if written, commits := f.value("amber_snapshot_bytes"), f.value("amber_commits_total", "transition=suspend", "outcome=done"); written != commits || f.value("amber_snapshot_bytes_total") < 1000*written {
		t.Errorf("%v snapshots of %v bytes, %v commits", written, f.value("amber_snapshot_bytes_total"), commits)
	}
	for _, name := range []string{"amber_vms", "amber_vm_pool_bytes", "amber_room_limit_bytes", "amber_database_connections_limit", "amber_claims_total", "go_goroutines", "process_cpu_seconds_total"} {
		if f.value(name) <= 0 {
			t.Errorf("%s is %v", name, f.value(name))
		}
	}
}

// TestMetricsWithoutDatabase: a database that is away, or does not answer, is told of
// and is no reason to lack all else.
func TestMetricsWithoutDatabase(t *testing.T) {
	t.Parallel()
	way, database := newRelay(t, pgtest.New(t))
	way.open()
	r := serve(t, ofServe(t, database))
	r.awaitBegun(t)
	r.result(t, `{"taskName":"echo","input":1}`)
	way.close()
	f := r.metrics(t, service)
	if f["amber_database_up"] == nil || f.value("amber_database_up") != 0 || f["amber_queue_depth"] != nil || f.value("amber_database_failures_total") != 1 {
		t.Errorf("without a database: %v", f["amber_database_up"])
	}
	if f.value("amber_runs_ended_total", "task=echo") != 1 || f.value("go_goroutines") == 0 {
		t.Errorf("the rest is missing: %v", f["amber_runs_ended_total"])
	}
	way.open()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) { // it is asked again in some seconds
		if f = r.metrics(t, service); f.value("amber_database_up") == 1 && f["amber_queue_depth"] != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never up again")
		}
	}
}

// TestMetricsAccess is the table of who may read them.
func TestMetricsAccess(t *testing.T) {
	t.Parallel()
	local := keys.Local()
	user, err := keys.SignJWT(local.JWTSecret, map[string]any{"role": "authenticated", "sub": "00000000-0000-4000-8000-000000000001", "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	c := ofServe(t, pgtest.New(t), "SUPABASE_SECRET_KEY", local.SecretKey, "SUPABASE_PUBLISHABLE_KEY", local.PublishableKey, "AMBER_METRICS_LISTEN", "127.0.0.1:"+strconv.Itoa(freePort(t)))
	closed := serve(t, c)
	closed.awaitBegun(t)
	open := start(t, func(*host.Config) {})
	for _, a := range []struct {
		name   string
		host   *running
		method string
		header string
		status int
		says   string
	}{
		{"nobody", closed, "GET", "", 401, "UNAUTHORIZED_NO_AUTH_HEADER"},
		{"anon", closed, "GET", "apikey: " + local.AnonKey, 403, "Metrics have the names of tasks in them"},
		{"publishable key", closed, "GET", "apikey: " + local.PublishableKey, 403, "metrics-listen"},
		{"user", closed, "GET", "Authorization: Bearer " + user, 403, "FORBIDDEN"},
		{"nonsense", closed, "GET", "Authorization: Bearer x", 401, "code"},
		{"service role", closed, "GET", service, 200, "amber_build_info"},
		{"service role as apikey", closed, "GET", "apikey: " + local.ServiceRoleKey, 200, "amber_build_info"},
		{"secret key", closed, "GET", "apikey: " + local.SecretKey, 200, "amber_build_info"},
		{"to change something", closed, "POST", service, 405, "nothing to do here"},
		{"forwarded from this machine", closed, "GET", "X-Forwarded-For: 127.0.0.1", 401, "code"},
		{"a developer's host", open, "GET", "", 200, "amber_build_info"},
		{"a page of elsewhere", open, "GET", "Origin: https://example.com", 403, "FOREIGN_ORIGIN"},
		{"under another name", open, "GET", "Host: example.com", 403, "FOREIGN_ORIGIN"},
	} {
		var headers []string
		if a.header != "" {
			headers = append(headers, a.header)
		}
		got := a.host.do(t, a.method, "/metrics", "", headers...)
		if got.status != a.status || !strings.Contains(got.body, a.says) {
			t.Errorf("%s: %d %.300s, want %d with %q", a.name, got.status, got.body, a.status, a.says)
		}
	}
	for path, status := range map[string]int{closed.info.MetricsURL: 200, strings.TrimSuffix(closed.info.MetricsURL, "/metrics") + "/functions/v1/tasks/list": 404} {
		response, err := closed.client.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, status)
		}
	}
	if err := closed.stop(); err != nil {
		t.Error(err)
	}
	if response, err := http.Get(closed.info.MetricsURL); err == nil {
		response.Body.Close()
		t.Error("metrics are served when the host has stopped")
	}
}

// TestMetricsListen is what the setting takes.
func TestMetricsListen(t *testing.T) {
	t.Parallel()
	for text, wrong := range map[string]string{"127.0.0.1:9464": "", ":9464": "", "[::1]:0": "", "metrics.internal:9464": "", "9464": "is not an address with a port: want something like 127.0.0.1:9464",
		"127.0.0.1": "is not an address with a port", "127.0.0.1:99999": "is not an address with a port", "http://x:1": "is not an address with a port"} {
		c, err := host.Load(host.Sources{Mode: host.Serve, Getenv: variables("AMBER_METRICS_LISTEN", text)})
		if wrong == "" && (err != nil || c.MetricsListen != text) || wrong != "" && (err == nil || !strings.Contains(err.Error(), "AMBER_METRICS_LISTEN: ") || !strings.Contains(err.Error(), wrong)) {
			t.Errorf("%q: %q, %v, want %q", text, c.MetricsListen, err, wrong)
		}
	}
	if err := (host.Config{Open: true, DataDir: "x", MetricsListen: ":9464"}).Check(); err == nil || !strings.Contains(err.Error(), "give metrics-listen an address such as 127.0.0.1:9464") {
		t.Errorf("an open host's metrics for everybody: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := ofServe(t, pgtest.New(t), "AMBER_METRICS_LISTEN", l.Addr().String())
	if err := host.New(c).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "choose another address for metrics with --metrics-listen or AMBER_METRICS_LISTEN") {
		t.Errorf("an address in use: %v", err)
	}
}
