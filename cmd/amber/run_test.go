package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestRunExamples(t *testing.T) {
	t.Parallel()
	tests := []struct{ task, input, want string }{
		{"hello", `{"name":"Ada"}`, `{"greeting":"Hello, Ada!"}`},
		{"hello", ``, `{"greeting":"Hello, world!"}`},
		{"nested", ``, `{"depth":5,"sum":15,"path":[5,4,3,2,1,0]}`},
		{"fan-out", `{"count":5}`, `{"count":5,"squares":[1,4,9,16,25],"sum":55}`},
		{"fan-out", ``, `{"count":20,"squares":[1,4,9,16,25,36,49,64,81,100,121,144,169,196,225,256,289,324,361,400],"sum":2870}`},
		{"catch-error", ``, `{"caught":true,"name":"CoffeeError","message":"out of coffee","cleanedUp":true}`},
		{"long-loop", ``, `{"calls":100,"intact":true,"checks":{"map":{"intact":true,"is":100,"must":100},` +
			`"privateFields":{"intact":true,"is":338350,"must":338350},"generator":{"intact":true,"is":391360,"must":391360},` +
			`"closure":{"intact":true,"is":101,"must":101}}}`},
		{"order-fulfilment", `{"pickUpInMs":10}`, `{"orderId":"A-1001","status":"fulfilled","cents":7630,` +
			`"payment":{"receipt":"A-1001-2","cents":7630,"attempt":2},"confirmation":{"to":"ada@example.com",` +
			`"subject":"Order A-1001 is ready","text":"3 items, 76.30 EUR, paid. See you soon!"}}`},
		{"order-fulfilment", `{"card":"card-declined"}`, `{"orderId":"A-1001","status":"cancelled",` +
			`"reason":"the card was declined","released":["tea-assam","teapot-red","cup-white"]}`},
		{"order-fulfilment", `{"lines":[{"sku":"a","quantity":11,"cents":1},{"sku":"b","quantity":1,"cents":1}]}`,
			`{"orderId":"A-1001","status":"cancelled","reason":"a: 11 wanted, 10 on hand","released":["b"]}`},
		{"square", `{"value":7}`, `49`},
		{"release-stock", `{"sku":"a","reservation":"A/a"}`, `{"sku":"a","released":true}`},
		{"send-confirmation", `{"orderId":"A","email":"a@b","cents":100,"reservations":["A/a"]}`,
			`{"to":"a@b","subject":"Order A is ready","text":"1 item, 1.00 EUR, paid. See you soon!"}`},
	}
	for _, test := range tests {
		t.Run(test.task, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := amber(t, on(t, "run", test.task, "--input", test.input)...)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			if !reflect.DeepEqual(parse(t, stdout), parse(t, test.want)) {
				t.Errorf("got\n%swant\n%s", stdout, test.want)
			}
		})
	}
}

func parse(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return value
}

func TestRunSleeper(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := amber(t, on(t, "run", "sleeper", "-i", `{"ms":300}`)...)
	if code != 0 || !strings.Contains(stdout, `"enough": true`) {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	for _, want := range []string{"sleeper > sleep: ", "[info] sleeping for 300 ms", "sleeper: completed in "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestRunFailure(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := amber(t, on(t, "run", "throw-error", "--input", `{"message":"no milk"}`)...)
	if code != exitFailed || stdout != "" {
		t.Errorf("exit %d, stdout %q", code, stdout)
	}
	for _, want := range []string{"throw-error failed: CoffeeError: no milk\n", "throw-error.js:", "[warn] about to fail, as asked"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestRunReadsInput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "in.json")
	if err := os.WriteFile(file, []byte(`{"name":"Grace"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := amber(t, on(t, "run", "hello", "--input", "@"+file)...)
	if code != 0 || !strings.Contains(stdout, "Hello, Grace!") {
		t.Errorf("from a file: exit %d, %s%s", code, stdout, stderr)
	}
	var out, errs bytes.Buffer
	code = run(t.Context(), on(t, "run", "hello", "--input", "-"), strings.NewReader(`{"name":"Alan"}`), &out, &errs, noEnv)
	if code != 0 || !strings.Contains(out.String(), "Hello, Alan!") {
		t.Errorf("from stdin: exit %d, %s%s", code, &out, &errs)
	}
}

func TestRunDrawsATree(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	stderr := &glass{width: 80, height: 24}
	code := run(t.Context(), on(t, "run", "order-fulfilment", "--input", `{"pickUpInMs":400}`), strings.NewReader(""), &stdout, stderr, noEnv)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	frames := strings.Split(stderr.String(), "\x1b[J")
	last := frames[len(frames)-2]
	for _, want := range []string{"order-fulfilment", "├─ ", "reserve-stock #3", "charge-card #2", "the bank did not answer", "send-confirmation"} {
		if !strings.Contains(last, want) {
			t.Errorf("no %q in the last frame:\n%s", want, last)
		}
	}
	if !strings.Contains(stderr.String(), "wakes in") {
		t.Error("the wait was never shown")
	}
	if strings.Contains(stdout.String(), "\x1b") {
		t.Error("escapes in the result")
	}
}

func TestRunWithoutColour(t *testing.T) {
	t.Parallel()
	stderr := &glass{width: 80, height: 24}
	env := func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
	run(t.Context(), on(t, "run", "hello"), strings.NewReader(""), &bytes.Buffer{}, stderr, env)
	if text := stderr.String(); !strings.Contains(text, "✓ hello") || strings.Contains(text, "m✓") {
		t.Errorf("%q", text)
	}
}

func TestRunDetaches(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	stderr := newConsole()
	exit := make(chan int, 1)
	args := on(t, "run", "sleeper", "--input", `{"ms":600000}`)
	go func() { exit <- run(ctx, args, strings.NewReader(""), &bytes.Buffer{}, stderr, noEnv) }()
	if err := stderr.await("sleeper > sleep: sleeping"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if code := <-exit; code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
	if text := stderr.String(); !strings.Contains(text, "\n  go run ./cmd/amber run --follow ") {
		t.Errorf("no way to look again:\n%s", text)
	}
}

// TestRunStuck: a run that no host can go on with is not waited for.
func TestRunStuck(t *testing.T) {
	t.Parallel()
	h, err := shared()
	must(t, err)
	stderr := newConsole()
	exit := make(chan int, 1)
	args := on(t, "run", "sleeper", "--input", `{"ms":600001}`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { exit <- run(ctx, args, strings.NewReader(""), io.Discard, stderr, noEnv) }()
	must(t, stderr.await("sleeper > sleep: sleeping"))
	db, err := pgx.Connect(t.Context(), "postgres://postgres:postgres@127.0.0.1:"+h.dbPort+"/postgres")
	must(t, err)
	defer db.Close(context.WithoutCancel(t.Context()))
	var id string
	must(t, db.QueryRow(t.Context(), `update public.task_runs set stuck_reason = 'no such key'
		where task_name = 'sleeper' and input->>'ms' = '600001' returning id`).Scan(&id))
	if code := <-exit; code != exitFailed {
		t.Errorf("exit %d", code)
	}
	want := "amber: run " + id + " is stuck: no such key\nIt goes on when a host starts that can go on with it, or stuck_reason is cleared in task_runs and stack_runs.\n"
	if !strings.HasSuffix(stderr.String(), want) {
		t.Errorf("no %q at the end of\n%s", want, stderr)
	}
}

func TestRunNamesNestedLogs(t *testing.T) {
	t.Parallel()
	code, _, stderr := amber(t, on(t, "run", "order-fulfilment", "--input", `{"card":"card-declined"}`)...)
	if code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"  [info] release-stock: released ", "  [warn] order A-1001: cancelled"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestRunUnknownTask(t *testing.T) {
	t.Parallel()
	code, _, stderr := amber(t, on(t, "run", "no-such-task")...)
	if code != exitFailed || !strings.Contains(stderr, "no-such-task") || !strings.Contains(stderr, "publish FILE). If amber dev watches it") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestFollowGivesUp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := newFollower(newClient("http://"+closedPort(t), "key"), newLineView(&out))
	f.poll, f.patience = 5*time.Millisecond, 50*time.Millisecond
	_, err := f.follow(t.Context(), "0197a5c0-0000-7000-8000-000000000000")
	var unreachable *unreachableError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "has been away for") {
		t.Errorf("error %v", err)
	}
	if n := strings.Count(out.String(), "host unreachable, retrying"); n != 1 {
		t.Errorf("told %d times:\n%s", n, &out)
	}
}

// closedPort returns an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestPrintJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"b":-0,"a":1.50,"c":"\u00e9<&>","b":1e400}`: "{\n  \"b\": -0,\n  \"a\": 1.50,\n  \"c\": \"\\u00e9<&>\",\n  \"b\": 1e400\n}\n",
		`"\ud800"`: "\"\\ud800\"\n",
		``:         "null\n",
	} {
		var out bytes.Buffer
		if err := printJSON(&out, json.RawMessage(in)); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v; want %q", in, &out, err, want)
		}
	}
}
