package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/service"
)

// serve runs a ledger and returns a client of it.
func serve(t *testing.T, file string) (*ledger.Ledger, ledger.Client) {
	t.Helper()
	l, err := ledger.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, ln) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
	})
	return l, ledger.Client{URL: "http://" + ln.Addr().String(), HTTP: &http.Client{Transport: transport}}
}

func call(method, ask string) service.Call {
	return service.Call{Service: ledger.Name, Steps: service.Path(method, []json.RawMessage{json.RawMessage(ask)})}
}

func ask(t *testing.T, s service.Service, key, method, args string) string {
	t.Helper()
	value, err := s.Call(t.Context(), call(method, args), service.Meta{TaskRun: "run", StackRun: "row-" + key, Task: "task", IdempotencyKey: key})
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	l, c := serve(t, "")
	const a = `{"tree":"t","path":"0.1"}`
	for _, tt := range []struct{ key, method, want string }{
		{"a", ledger.Once, `{"n":1,"path":"0.1","value":null}`},
		{"b", ledger.Each, `{"n":2,"path":"0.1","value":null}`},
		{"a", ledger.Once, `{"n":1,"path":"0.1","value":null}`},
		{"b", ledger.Each, `{"n":4,"path":"0.1","value":null}`},
		{"c", ledger.Once, `{"n":5,"path":"0.1","value":null}`},
	} {
		if got := ask(t, c, tt.key, tt.method, a); got != tt.want {
			t.Errorf("%s under %s = %s, want %s", tt.method, tt.key, got, tt.want)
		}
	}
	var firsts []int64
	for i, e := range l.Entries() {
		firsts = append(firsts, e.First)
		if e.Number != int64(i+1) || e.Repeat() != (e.First != e.Number) || e.At.IsZero() {
			t.Errorf("entry %d is %+v", i+1, e)
		}
	}
	if want := []int64{1, 2, 1, 2, 5}; !reflect.DeepEqual(firsts, want) {
		t.Errorf("first entries of their keys: %v, want %v", firsts, want)
	}
	e := l.Entries()[3]
	if e.Key != "b" || e.TaskRun != "run" || e.StackRun != "row-b" || e.Task != "task" || e.Method != ledger.Each ||
		e.Ask != (ledger.Ask{Tree: "t", Path: "0.1"}) || string(e.Answer.Value) != `{"n":4,"path":"0.1","value":null}` {
		t.Errorf("entry 4 is %+v", e)
	}
}

// TestAwkwardAnswers: every text comes through the wire and the file to the byte.
func TestAwkwardAnswers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.jsonl")
	l, c := serve(t, file)
	for _, name := range ledger.AwkwardNames() {
		text := ledger.Awkward(name)
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil || compact.String() != text {
			t.Fatalf("%s is not compact JSON: %v", name, err)
		}
		got := ask(t, c, name, ledger.Once, `{"tree":"t","path":"<&>","answer":"`+name+`"}`)
		if !strings.HasSuffix(got, `"value":`+text+`}`) {
			t.Errorf("%s came as %.200s", name, got)
		}
	}
	for where, read := range map[string]func() ([]ledger.Entry, error){
		"file": func() ([]ledger.Entry, error) { return ledger.Read(file) },
		"HTTP": func() ([]ledger.Entry, error) { return c.Entries(t.Context()) },
	} {
		entries, err := read()
		if err != nil || !reflect.DeepEqual(entries, l.Entries()) {
			t.Errorf("entries from the %s differ from those in memory (%v)", where, err)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	l, c := serve(t, "")
	for _, tt := range []struct{ method, ask, code, message string }{
		{ledger.Each, `{"tree":"t","path":"0.1","fail":"BROKE"}`, "BROKE", "entry 1 of 0.1 fails on demand"},
		{ledger.Once, `{"tree":"t","path":"0.1","fail":"BROKE"}`, "BROKE", "entry 1 of 0.1 fails on demand"}, // the recorded one
		{"twice", `{"tree":"t","path":"0"}`, service.CodeUnknownMethod, "once or each"},
		{ledger.Once, `{"tree":"t"}`, service.CodeInvalidArgument, "a tree and a path"},
		{ledger.Once, `{"tree":"t","path":"0","answer":"nosuch"}`, service.CodeInvalidArgument, "nosuch"},
		{ledger.Once, `{"tree":"t","path":"0","delay":1e9}`, service.CodeInvalidArgument, "delay"},
		{ledger.Once, `{"tree":"t","path":"0","flaky":1001}`, service.CodeInvalidArgument, "flaky"},
		{ledger.Once, `{"tree":"t","path":"0","more":1}`, service.CodeInvalidArgument, "more"},
		{ledger.Once, `7`, service.CodeInvalidArgument, "once"},
	} {
		_, err := c.Call(t.Context(), call(tt.method, tt.ask), service.Meta{IdempotencyKey: "key"})
		if e := service.AsError(err); e.Code != tt.code || !strings.Contains(e.Message, tt.message) {
			t.Errorf("%s(%s) = %v, want %s: %s", tt.method, tt.ask, err, tt.code, tt.message)
		}
	}
	if n := len(l.Entries()); n != 2 {
		t.Errorf("%d entries, want the 2 that were effects", n)
	}
}

// TestFlaky: the first tries under a key are refused, in a manner that is tried
// again, whether the service is idempotent or not, and none after them.
func TestFlaky(t *testing.T) {
	t.Parallel()
	l, c := serve(t, "")
	try := func(key, method string) (string, *service.Error) {
		value, err := c.Call(t.Context(), call(method, `{"tree":"t","path":"0","flaky":2}`), service.Meta{IdempotencyKey: key})
		if err == nil {
			return string(value), nil
		}
		return "", service.AsError(err)
	}
	for _, key := range []string{ledger.Once, ledger.Each} {
		for i, want := range []struct {
			status int
			after  time.Duration
		}{{http.StatusServiceUnavailable, 0}, {http.StatusTooManyRequests, ledger.RetryAfter}} {
			_, err := try(key, key)
			if err == nil || err.Code != ledger.CodeFlaky || err.Status != want.status || err.RetryAfter != want.after {
				t.Errorf("try %d of %s: %+v", i, key, err)
			}
			if after, ok := service.Retryable(err); !ok || after != want.after {
				t.Errorf("try %d of %s is not tried again after %v", i, key, want.after)
			}
		}
		for range 2 {
			if _, err := try(key, key); err != nil {
				t.Errorf("%s is refused for ever: %v", key, err)
			}
		}
	}
	var firsts []int64
	refused := 0
	for _, e := range l.Entries() {
		firsts = append(firsts, e.First)
		if e.Refused() {
			refused++
		}
	}
	if want := []int64{1, 2, 3, 3, 5, 6, 7, 7}; !reflect.DeepEqual(firsts, want) || refused != 4 {
		t.Errorf("first entries %v, want %v; %d refused", firsts, want, refused)
	}
}

// TestTurns: a path's keys are counted, each once, also by a ledger that goes on.
func TestTurns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.jsonl")
	for _, keys := range []string{"aab", "cab"} {
		l, err := ledger.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			e, err := l.Record(call(ledger.Each, `{"tree":"t","path":"0","turn":true}`), service.Meta{IdempotencyKey: string(key)})
			want := fmt.Sprintf(`{"n":%d,"path":"0","turn":%d,"value":null}`, e.Number, key-'a'+1)
			if err != nil || string(e.Answer.Value) != want {
				t.Errorf("%s, %v, want %s", e.Answer.Value, err, want)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEffectWithoutAnswer: what was asked has happened, though whoever asked was
// gone before the answer.
func TestEffectWithoutAnswer(t *testing.T) {
	t.Parallel()
	l, c := serve(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, call(ledger.Once, `{"tree":"t","path":"0","delay":10000}`), service.Meta{IdempotencyKey: "k"})
		failed <- err
	}()
	for len(l.Entries()) == 0 {
		select {
		case err := <-failed:
			t.Fatalf("answered before the delay: %v", err)
		default:
			runtime.Gosched()
		}
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	if e, err := l.Record(call(ledger.Once, `{"tree":"t","path":"0"}`), service.Meta{IdempotencyKey: "k"}); err != nil || e.First != 1 ||
		string(e.Answer.Value) != `{"n":1,"path":"0","value":null}` {
		t.Errorf("the repeat is %+v, %v", e, err)
	}
}

// TestConcurrentRepeats: of many that ask at once, one is the first, and all get its answer.
func TestConcurrentRepeats(t *testing.T) {
	t.Parallel()
	l, c := serve(t, "")
	answers := make([]string, 32)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = ask(t, c, "k", ledger.Once, `{"tree":"t","path":"0"}`) })
	}
	all.Wait()
	for _, got := range answers {
		if got != `{"n":1,"path":"0","value":null}` {
			t.Errorf("answer %s", got)
		}
	}
	if n := len(l.Entries()); n != len(answers) {
		t.Errorf("%d entries for %d effects", n, len(answers))
	}
}

// TestFile: a ledger that is opened again goes on; one whose last line was cut off says so.
func TestFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.jsonl")
	record := func(key string) ledger.Entry {
		l, err := ledger.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.Record(call(ledger.Once, `{"tree":"t","path":"0"}`), service.Meta{IdempotencyKey: key})
		if err := errors.Join(err, l.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Record(call(ledger.Once, `{"tree":"t","path":"0"}`), service.Meta{}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a closed ledger recorded: %v", err)
		}
		return e
	}
	record("a")
	record("b")
	if e := record("a"); e.Number != 3 || e.First != 1 {
		t.Errorf("opened again: %+v", e)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw[:len(raw)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Read(file); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("read of a file that was cut off: %v", err)
	}
	if _, err := ledger.Open(file); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("open of a file that was cut off: %v", err)
	}
}
