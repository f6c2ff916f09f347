package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestDevRefusesATakenPort(t *testing.T) {
	t.Parallel()
	port := hostURL(t)[strings.LastIndex(hostURL(t), ":")+1:]
	code, _, stderr := amber(t, "dev", "--port", port, "--data", t.TempDir())
	if code != exitFailed || !strings.Contains(stderr, "port "+port+" is in use") {
		t.Errorf("exit %d: %s", code, stderr)
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
		must(t, h.kill())
		must(t, watcher.await("host unreachable, retrying"))
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
