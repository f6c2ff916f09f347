package host_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

// TestFuzz throws random requests at a host that is open and at one that is
// not. AMBER_FUZZ says how many, and then memory and goroutines are watched,
// too: run it alone. AMBER_FUZZ_SEED repeats what a failure names:
//
//	AMBER_FUZZ=100000 go test ./host -run TestFuzz -v -timeout 1h
func TestFuzz(t *testing.T) {
	t.Parallel()
	requests, alone := 4000, false
	seed := uint64(time.Now().UnixNano())
	for name, to := range map[string]func(uint64){
		"AMBER_FUZZ":      func(n uint64) { requests, alone = int(n), true },
		"AMBER_FUZZ_SEED": func(n uint64) { seed = n },
	} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			to(n)
		}
	}
	for name, open := range map[string]bool{"open": true, "closed": false} {
		t.Run(name, func(t *testing.T) {
			if !alone {
				t.Parallel()
			}
			newFuzzer(t, open, seed).run(t, requests/2, alone)
		})
	}
}

type fuzzer struct {
	host      *running
	address   string
	functions []string
	ids, keys []string
	seed      uint64
	log       *checkedLog
	statuses  [1000]atomic.Int64
	failed    atomic.Int64
}

func newFuzzer(t *testing.T, open bool, seed uint64) *fuzzer {
	log := new(checkedLog)
	r := start(t, func(c *host.Config) {
		c.Open = open
		c.TasksDir = tasksDir(t, map[string]string{
			"echo.js": wireTasks["echo.js"], "fail.js": wireTasks["fail.js"],
			"nest.js": "module.exports = async (input, { tools }) => await tools.tasks.execute('leaf', input)", "leaf.js": wireTasks["echo.js"]})
		c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	f := &fuzzer{host: r, address: strings.TrimPrefix(r.info.URL, "http://"), seed: seed, log: log}
	var index struct{ Functions map[string]string }
	if err := json.Unmarshal([]byte(r.do(t, "GET", "/", "").body), &index); err != nil || len(index.Functions) == 0 {
		t.Fatalf("index: %v, %v", index, err)
	}
	for name := range index.Functions {
		f.functions = append(f.functions, name)
	}
	for _, task := range []string{"echo", "fail", "nest"} {
		run := r.execute(t, `{"taskName":"`+task+`"}`)
		f.ids = append(f.ids, run.ID)
	}
	f.keys = credentials(t)
	return f
}

func credentials(t *testing.T) []string {
	local := keys.Local()
	claims := func(role string, exp int64) string {
		return "Authorization: Bearer " + user(t, map[string]any{"role": role, "sub": "6f1d2c3a-0000-4000-8000-00000000000a", "exp": exp})
	}
	soon := time.Now().Add(24 * time.Hour).Unix()
	return []string{
		"apikey: " + local.SecretKey, "apikey: " + local.SecretKey, "apikey: " + local.SecretKey, "apikey: " + local.SecretKey, "Authorization: Bearer " + local.ServiceRoleKey, "apikey: " + local.AnonKey,
		"Authorization: Bearer " + local.PublishableKey, claims("authenticated", soon), claims("authenticated", soon), claims("service_role", soon), claims("service_role", soon), claims("anon", 1),
		"apikey: your-anon-key", "Authorization: Basic YTpi", "Authorization: Bearer a.b.c", "Authorization:", "Authorization: Bearer " + strings.Repeat("x", 20_000),
	}
}

// run sends the requests in four parts. The last is to leave no more behind than
// the first.
func (f *fuzzer) run(t *testing.T, requests int, alone bool) {
	var first memory
	for part := range 4 {
		var workers sync.WaitGroup
		var next atomic.Int64
		next.Store(int64(part * requests / 4))
		for range 8 {
			workers.Go(func() {
				w := &fuzzWorker{fuzzer: f, t: t}
				defer w.hangUp()
				for i := next.Add(1) - 1; i < int64((part+1)*requests/4) && f.failed.Load() < 5; i = next.Add(1) - 1 {
					w.send(i)
				}
			})
		}
		workers.Wait()
		f.settle(t)
		if alone {
			f.host.client.CloseIdleConnections()
			now := measure(t)
			t.Logf("after %d requests: heap and stacks %.1f MB, resident %.1f MB, %d goroutines", (part+1)*requests/4, now.heap, now.resident, now.goroutines)
			if part == 0 {
				first = now
			} else {
				goroutines(t, first.goroutines+10) // the pool's and the processor's come and go
			}
			if now.heap > 1.5*first.heap+10 {
				t.Errorf("%.1f MB after a quarter, %.1f MB later", first.heap, now.heap)
			}
		}
	}
	f.log.check(t)
	var statuses []string
	for status := range f.statuses {
		if n := f.statuses[status].Load(); n > 0 {
			statuses = append(statuses, fmt.Sprint(status, ": ", n))
		}
	}
	t.Logf("seed %d; %d lines of log, the longest has %d bytes; answers by status: %s", f.seed, f.log.lines, f.log.longest, strings.Join(statuses, ", "))
	if t.Failed() {
		t.Logf("again: AMBER_FUZZ_SEED=%d AMBER_FUZZ=%d go test ./host -run %s", f.seed, 2*requests, t.Name())
	}
}

// settle waits until every run has ended that the requests have started.
func (f *fuzzer) settle(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.host.info.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	const query = `select (select count(*) from task_runs where ended_at is null) + (select count(*) from stack_runs where ended_at is null)`
	left := -1
	for timeout := time.After(5 * patience); left != 0; {
		if err := conn.QueryRow(t.Context(), query).Scan(&left); err != nil {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%d runs and calls do not end", left)
		}
	}
}

// fuzzWorker sends one request after the other, on one connection while that lasts.
type fuzzWorker struct {
	*fuzzer
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (w *fuzzWorker) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

func (w *fuzzWorker) send(i int64) {
	source := rand.New(rand.NewPCG(w.seed, uint64(i)))
	request := generator{source, w.t, w.functions, w.ids, w.keys}.request()
	if !request.whole() {
		w.hangUp()
	}
	again := w.conn != nil
	a, err := w.exchange(request)
	if err != nil && again { // the server may have closed the connection meanwhile
		w.hangUp()
		a, err = w.exchange(request)
	}
	problem := ""
	if err != nil {
		problem = fmt.Sprintf("no answer: %v", err)
	} else {
		w.statuses[a.status].Add(1)
		problem = wrong(request, a)
	}
	if problem != "" {
		w.failed.Add(1)
		raw := request.bytes()
		w.t.Errorf("seed %d, request %d: %s\nsent: %q\ngot: %d %v %.2000q", w.seed, i, problem, raw[:min(len(raw), 5000)], a.status, a.header, a.body)
	}
}

func (w *fuzzWorker) exchange(request fuzzed) (a answer, err error) {
	if w.conn == nil {
		if w.conn, err = net.Dial("tcp", w.address); err != nil {
			return a, err
		}
		w.in = bufio.NewReader(w.conn)
	}
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return a, err
	}
	conn := w.conn
	sent := make(chan struct{})
	go func() { // the server may answer before it has read all
		defer close(sent)
		_, _ = conn.Write(request.bytes())
		if !request.whole() {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	defer func() { <-sent }()
	response, err := http.ReadResponse(w.in, &http.Request{Method: request.method})
	for err == nil && response.StatusCode < 200 {
		response, err = http.ReadResponse(w.in, &http.Request{Method: request.method})
	}
	if err != nil {
		w.hangUp()
		return a, err
	}
	body, err := io.ReadAll(response.Body)
	if response.Close || !request.whole() || err != nil {
		w.hangUp()
	}
	if err != nil && response.Header.Get("sb-request-id") == "" {
		err = nil // net/http refuses and closes, whether or not the client still sends
	}
	return answer{response.StatusCode, response.Header, string(body)}, err
}

// wrong says what no answer may be, "" for a good one.
func wrong(request fuzzed, a answer) string {
	kind := a.header.Get("Content-Type")
	ours := a.header.Get("sb-request-id") != ""
	switch {
	case !ours && (a.status == 400 || a.status == 431 || a.status == 501 || a.status == 200 && request.target == "*"):
		return "" // net/http, which never called us
	case !ours:
		return "no request id"
	case a.status >= 500 && !originals(request, a):
		return "a fault of the host's"
	case request.method == "HEAD" || a.status == 204 || a.status == 304:
		if a.body != "" {
			return "a body where none may be"
		}
		return ""
	}
	text, err := a.decoded()
	switch {
	case err != nil:
		return err.Error()
	case kind == "text/plain; charset=utf-8" && request.method == "OPTIONS" && text == "ok":
		return ""
	case kind != "application/json":
		return "Content-Type " + kind
	case !json.Valid([]byte(text)):
		return "not JSON"
	case a.status == 405 && a.header.Get("Allow") == "":
		return "no Allow"
	case a.status >= 400:
		var body struct{ Error json.RawMessage }
		if json.Unmarshal([]byte(text), &body) != nil || len(body.Error) < 3 || string(body.Error) == "null" {
			return "no error"
		}
	}
	return ""
}

// originals reports whether a 500 is what the original's contract demands: of
// quickjs for a run that failed, of stack-processor for a body that is not JSON.
func originals(request fuzzed, a answer) bool {
	text, err := a.decoded()
	var body struct {
		Error json.RawMessage
		Code  string
		Stack *string
	}
	if err != nil || a.status != 500 || request.method != "HEAD" && json.Unmarshal([]byte(text), &body) != nil {
		return false
	}
	switch {
	case strings.Contains(request.target, "/functions/v1/quickjs"):
		return request.method == "HEAD" || body.Stack != nil && body.Code != "INTERNAL_ERROR"
	case strings.Contains(request.target, "/functions/v1/stack-processor"):
		return request.method == "HEAD" || body.Code == "INVALID_JSON"
	}
	return false
}

// checkedLog checks each line of the host's log and keeps what is wrong.
type checkedLog struct {
	mu             sync.Mutex
	lines, longest int
	wrong          []string
}

func (l *checkedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	l.longest = max(l.longest, len(line))
	text := string(line)
	if len(text) > maxLine || strings.Count(text, "\n") != 1 || strings.Contains(text, "level=ERROR") || strings.Contains(text, "panic") || strings.Contains(text, "superfluous") {
		l.wrong = append(l.wrong, text)
	}
	return len(line), nil
}

func (l *checkedLog) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.wrong[:min(len(l.wrong), 10)] {
		t.Errorf("in the log: %.3000s", line)
	}
}
