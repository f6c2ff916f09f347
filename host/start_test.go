package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// patience is how long a test waits for what should come within milliseconds.
const patience = 2 * time.Minute

// cacheDir keeps compiled code for all hosts of this test run.
var cacheDir string

func TestMain(m *testing.M) {
	var err error
	if cacheDir, err = os.MkdirTemp("", "amber-host-test-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(cacheDir)
		os.Exit(code)
	}))
}

// compiled has the engine compiled into cacheDir, once, before hosts that start
// side by side each do it.
var compiled = sync.OnceValue(func() error {
	entry, err := keys.NewKey("test")
	if err != nil {
		return err
	}
	ring, err := keys.ParseRing(entry)
	if err != nil {
		return err
	}
	engine, err := vm.New(context.Background(), vm.Options{CacheDir: cacheDir, Keys: ring})
	if err != nil {
		return err
	}
	return engine.Close(context.Background())
})

// running is a host that serves until its test ends.
type running struct {
	t      *testing.T
	info   host.Info
	client *http.Client
	lines  logLines
	stop   func() error // ends the host and returns what Run did
	wait   func() error // returns what Run did when it ends by itself

	awaitBegun func(*testing.T) // waits until the host is ready, and sets info
}

// start starts a host on a database of its own. It is open, and has no tasks but what change sets.
func start(t *testing.T, change func(*host.Config)) *running {
	t.Helper()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, lines: make(logLines, 10_000), client: &http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience}, Timeout: patience}}
	config := host.Config{
		DataDir:  t.TempDir(),
		CacheDir: cacheDir,
		Open:     true,
		Keys:     keys.Local(),
		Log:      slog.New(slog.NewTextHandler(r.lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	change(&config)
	if config.DatabaseURL == "" && config.DBPort == 0 {
		config.DatabaseURL = pgtest.New(t)
	}
	r.run(config)
	return r
}

// run starts the host and waits until it is ready.
func (r *running) run(config host.Config) {
	r.t.Helper()
	r.begin(config)
	r.awaitBegun(r.t)
}

// begin starts the host.
func (r *running) begin(config host.Config) {
	r.t.Helper()
	ready := make(chan host.Info, 1)
	config.Ready = func(info host.Info) { ready <- info }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.New(config).Run(ctx) }()
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	r.wait = func() error {
		stopped = true
		defer cancel()
		return <-ended
	}
	r.t.Cleanup(func() {
		r.client.CloseIdleConnections()
		if err := r.stop(); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.awaitBegun = func(t *testing.T) {
		t.Helper()
		select {
		case r.info = <-ready:
		case err := <-ended:
			stopped = true
			cancel()
			t.Fatalf("Run: %v", err)
		}
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are "Name: value".
func (r *running) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.info.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
		if name == "Host" {
			request.Host = value
		}
	}
	response, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// execute runs a task to its end and returns its row.
func (r *running) execute(t *testing.T, body string) (run struct {
	ID     string
	Status string
	Result json.RawMessage
	Error  struct{ Message, Code string }
}) {
	t.Helper()
	a := r.do(t, "POST", "/functions/v1/tasks/execute", body, "Prefer: wait=60", "apikey: "+r.info.AnonKey)
	if a.status != 200 || json.Unmarshal([]byte(a.body), &run) != nil {
		t.Fatalf("execute %.200s: %d %.500s", body, a.status, a.body)
	}
	return run
}

// field returns the exact bytes of a field of the answer.
func (a answer) field(t *testing.T, name string) string {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &object); err != nil {
		t.Fatalf("%v in %.500s", err, a.body)
	}
	return string(object[name])
}

func (a answer) text(t *testing.T, name string) (s string) {
	t.Helper()
	if raw := a.field(t, name); raw != "" {
		if err := json.Unmarshal([]byte(raw), &s); err != nil {
			t.Fatalf("%s: %v in %.500s", name, err, a.body)
		}
	}
	return s
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%v in %.500s", err, text)
	}
	return b.String()
}

// logLines receives the host's log, a line at a time.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// await reads lines until one has all of the parts.
func (l logLines) await(t *testing.T, parts ...string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-l:
			found := true
			for _, part := range parts {
				found = found && strings.Contains(line, part)
			}
			if found {
				return line
			}
		case <-timeout:
			t.Fatalf("no log line with %q", parts)
		}
	}
}

// rest returns what has been logged and not been read.
func (l logLines) rest() string {
	var all strings.Builder
	for {
		select {
		case line := <-l:
			all.WriteString(line)
		default:
			return all.String()
		}
	}
}

// tasksDir makes a directory of task files.
func tasksDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, code := range files {
		write(t, dir, name, code)
	}
	return dir
}

func write(t *testing.T, dir, name, code string) {
	t.Helper()
	if err := os.WriteFile(dir+"/"+name, []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
}
