package main

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

func TestDevRefusesATakenPort(t *testing.T) {
	t.Parallel()
	port := hostURL(t)[strings.LastIndex(hostURL(t), ":")+1:]
	code, _, stderr := amber(t, "dev", "--port", port, "--data", t.TempDir())
	if code != exitFailed || !strings.Contains(stderr, "port "+port+" is in use") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestDevRefusesAForeignDatabase(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	foreign := env(map[string]string{"DATABASE_URL": "postgres://app:secret@db.example.com/app"})
	code := run(t.Context(), []string{"dev"}, strings.NewReader(""), io.Discard, &stderr, foreign)
	if code != exitUsage || !strings.Contains(stderr.String(), "DATABASE_URL names db.example.com: dev migrates its database") ||
		strings.Contains(stderr.String(), "secret") {
		t.Errorf("exit %d: %s", code, &stderr)
	}
	// A flag is not overlooked.
	h, err := shared()
	must(t, err)
	stderr.Reset()
	args := []string{"dev", "--port", "0", "--data", h.data, "--database-url", "postgres://127.0.0.1:1/none"}
	code = run(t.Context(), args, strings.NewReader(""), io.Discard, &stderr, foreign)
	if want := "--database-url: no Postgres answers at 127.0.0.1:1\n"; code != exitFailed || !strings.Contains(stderr.String(), want) {
		t.Errorf("exit %d, no %q in %s", code, want, &stderr)
	}
}

func TestGreeting(t *testing.T) {
	t.Parallel()
	info := host.Info{URL: "http://127.0.0.1:54321", FunctionsURL: "http://127.0.0.1:54321/functions/v1",
		DatabaseURL: "postgres://app:secret@db.example.com/app", Database: "app at db.example.com:5432", DataDir: "/data"}
	greet := func(info host.Info, config host.Config) string {
		var out bytes.Buffer
		(&program{stdout: &out}).greet(info, config)
		return out.String()
	}
	for name, test := range map[string]struct {
		tasks   []string
		config  host.Config
		want    []string
		without string
	}{
		"embedded": {nil, host.Config{}, []string{"DB URL  " + info.DatabaseURL + "\n", "process id  " + strconv.Itoa(os.Getpid()) + "\n", " run order-fulfilment\n"}, "apply"},
		"given": {nil, host.Config{DatabaseURL: info.DatabaseURL},
			[]string{"database  app at db.example.com:5432, from DATABASE_URL; --data and --db-port do not apply to it\n", "/data, for amber's keys and caches alone\n"}, "secret"},
		"by a flag": {nil, host.Config{DatabaseURL: info.DatabaseURL, DatabaseVia: "--database-url"}, []string{"from --database-url;"}, "secret"},
		"tasks":     {[]string{"two", "one"}, host.Config{TasksDir: "here"}, []string{"here, watched", " run two\n", `{"taskName":"two"}`}, "order"},
		"no tasks":  {nil, host.Config{TasksDir: "here"}, []string{"amber is ready", "no task in here is published yet: see the log above\n"}, " run "},
	} {
		info.Tasks = test.tasks
		got := greet(info, test.config)
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", name, want, got)
			}
		}
		if strings.Contains(got, test.without) {
			t.Errorf("%s: %q in\n%s", name, test.without, got)
		}
	}
}

// A host is killed in the middle of a run, without a warning, and started
// again. Whoever watches the run sees it end as an undisturbed run does.
func TestKill(t *testing.T) {
	t.Parallel()
	h := startVictim(t)
	tests := []struct{ task, input, moment string }{
		{"order-fulfilment", `{"pickUpInMs":700}`, "order-fulfilment > sleep #2: sleeping"},
		{"long-loop", `{"calls":100}`, "25 of 100 calls done"},
	}
	for _, test := range tests {
		args := []string{"run", test.task, "--input", test.input, "--url", h.url}
		code, undisturbed, stderr := amber(t, args...)
		if code != 0 {
			t.Fatalf("undisturbed: exit %d: %s", code, stderr)
		}
		var stdout bytes.Buffer
		watcher := newConsole()
		exit := make(chan int, 1)
		go func() {
			exit <- run(t.Context(), args, strings.NewReader(""), &stdout, watcher, noEnv)
			watcher.end()
		}()
		must(t, watcher.await(test.moment))
		logs := h.followLogs(t, test.task)
		must(t, h.kill())
		must(t, watcher.await("host unreachable, retrying"))
		must(t, logs.stderr.await("the host cannot answer now, retrying"))
		must(t, h.start())
		if code := <-exit; code != 0 {
			t.Fatalf("%s: exit %d: %s", test.task, code, watcher)
		}
		if stdout.String() != undisturbed {
			t.Errorf("%s ended with\n%s\nundisturbed with\n%s", test.task, &stdout, undisturbed)
		}
		if !strings.Contains(watcher.String(), "host is back") {
			t.Errorf("the host's return is not told:\n%s", watcher)
		}
		logs.check(t)
	}
}

// tail is amber logs -f under way.
type tail struct {
	args           []string
	stdout, stderr *console
	exit           chan int
}

// followLogs starts amber logs -f of the latest run of a task.
func (h *devHost) followLogs(t *testing.T, task string) *tail {
	t.Helper()
	rows, err := newClient(h.url, keys.Local().ServiceRoleKey).runs(t.Context(), runFilter{task: task, limit: 1})
	must(t, err)
	l := &tail{[]string{"logs", rows[0].ID, "--url", h.url}, newConsole(), newConsole(), make(chan int, 1)}
	go func() {
		l.exit <- run(t.Context(), append(slices.Clone(l.args), "-f"), strings.NewReader(""), l.stdout, l.stderr, noEnv)
	}()
	must(t, l.stdout.await("  info   "))
	return l
}

// check wants every line shown, and once, when the run has ended.
func (l *tail) check(t *testing.T) {
	t.Helper()
	if code := <-l.exit; code != 0 {
		t.Errorf("logs -f: exit %d: %s", code, l.stderr)
	}
	want := "amber: the host cannot answer now, retrying (the run is safe in its database)\namber: the host is back\n"
	if got := l.stderr.String(); got != want {
		t.Errorf("logs -f told %q, want %q", got, want)
	}
	if code, all, _ := amber(t, l.args...); code != 0 || l.stdout.String() != all {
		t.Errorf("logs -f showed\n%s\nlogs shows\n%s", l.stdout, all)
	}
}

func startVictim(t *testing.T) *devHost {
	t.Helper()
	h, err := newDevHost()
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() && h.out != nil {
			t.Logf("amber dev wrote\n%s", h.out)
		}
		if h.process == nil { // killed: the next start finds its Postgres, and stops it
			must(t, h.start())
		}
		must(t, h.stop())
		must(t, h.remove())
	})
	must(t, h.start())
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
