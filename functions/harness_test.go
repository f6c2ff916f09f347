package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

const testKey = "test:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

var engine = sync.OnceValues(func() (*vm.Engine, error) {
	ring, err := keys.ParseRing(testKey)
	if err != nil {
		return nil, err
	}
	return vm.New(context.Background(), vm.Options{CacheDir: engineCache(), Keys: ring})
})

// engineCache keeps compiled code for all processes of these tests.
func engineCache() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("amber-test-cache-%d", os.Getuid()))
}

// tasks are published in every test's database.
var tasks = map[string]string{
	"echo":      "/** Gives back. */\nmodule.exports = async (input) => input",
	"fail":      "module.exports = async () => { throw new TypeError('boom <&>') }",
	"never":     "module.exports = async (input, { tools }) => { console.log('before'); const v = await tools.sleep(3600000); return { got: v } }",
	"wait-key":  "module.exports = async (input, { tools }) => ({ got: await tools.slow.answer('k') })",
	"nest":      "module.exports = async (input, { tools }) => { console.warn('nesting'); return await tools.tasks.execute('echo', input) }",
	"undefined": "module.exports = async () => {}",
	"quote's":   "module.exports = () => 'quoted'",
	"empty":     " ",
	"broken":    "module.exports = () => {\n  return 1 +;\n}",
	"number":    "module.exports = 7",
	"tidy":      "module.exports = async (input, { tools }) => { try { await tools.sleep(3600000) } finally { await tools.sleep(3600000) } }",
	"endless":   "module.exports = () => { for (;;); }",
	"busy":      "module.exports = () => { const t = Date.now(); while (Date.now() < t + 300); }",
}

// slow answers nobody: who calls it waits until somebody else answers.
type slow struct{}

func (slow) Call(ctx context.Context, _ service.Call, _ service.Meta) (json.RawMessage, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// database is a test's own, with the tasks.
type database struct {
	pool  *pgxpool.Pool
	store *stack.Store
}

func newDatabase(t *testing.T) database {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	ring, err := keys.ParseRing(testKey)
	if err != nil {
		t.Fatal(err)
	}
	d := database{pool, stack.NewStore(pool, ring)}
	for _, name := range slices.Sorted(maps.Keys(tasks)) {
		if _, err := d.store.Publish(t.Context(), stack.Task{Name: name, Code: tasks[name], Description: "Task: " + name}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// served is a host's functions on a database, as the gateway reaches them.
type served struct {
	functions map[string]functions.Function
	processor *stack.Processor
}

// serve runs a processor until the test ends. One that does not work serves only.
func (d database) serve(t *testing.T, change func(*functions.Deps), works bool) *served {
	t.Helper()
	return d.serveAs(t, change, func(*stack.Config) {}, works)
}

// serveAs is serve with another configuration of the processor.
func (d database) serveAs(t *testing.T, change func(*functions.Deps), configure func(*stack.Config), works bool) *served {
	t.Helper()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	deps := functions.Deps{Store: d.store, Engine: e, Pool: d.pool, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&deps)
	}
	services := functions.Services(deps)
	services["slow"] = slow{}
	config := stack.Config{Store: d.store, Engine: e, HostName: "test", Services: services,
		Sweep: 50 * time.Millisecond, Drain: time.Millisecond}
	configure(&config)
	deps.Processor = stack.NewProcessor(config)
	if works {
		work(t, deps.Processor)
	}
	s := &served{functions: map[string]functions.Function{}, processor: deps.Processor}
	for _, f := range functions.Table(deps) {
		s.functions[f.Name] = f
	}
	return s
}

func work(t *testing.T, p *stack.Processor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("processor: %v", err)
		}
	})
	select {
	case <-p.Ready():
	case err := <-done:
		t.Fatalf("processor: %v", err)
	}
}

// row is one exchange: a line of a function's contract. Where generations of
// the original contradict each other, its name says what was decided, and in
// brackets what a generation, by its commit, did.
type row struct {
	name   string
	send   string // method and path
	header string // lines "Name: value"; Role: says who calls: anon, service_role, or a user's id
	body   string

	status int
	gives  string // headers, lines "Name: value"
	want   string // the body; JSON, in which "*" is anything and a key "..." allows others; or text
	keep   string // "run=taskRunId": {run} in later rows is what is under that key
	again  bool   // send it until it is answered so: what it asks about takes its time
}

// exchange sends the rows one after the other.
func (s *served) exchange(t *testing.T, rows []row) {
	t.Helper()
	kept := map[string]string{}
	fill := func(text string) string {
		for name, value := range kept {
			text = strings.ReplaceAll(text, "{"+name+"}", value)
		}
		return text
	}
	for _, r := range rows {
		r.send, r.body, r.want, r.header, r.gives = fill(r.send), fill(r.body), fill(r.want), fill(r.header), fill(r.gives)
		a := s.do(t, r)
		for deadline := time.Now().Add(time.Minute); r.again && matches(r.want, a.Body.String()) != "" && time.Now().Before(deadline); {
			a = s.do(t, r)
		}
		got := a.Body.String()
		if a.Code != r.status {
			t.Errorf("%s: %s %.200s\n%d %.1000s\nwant %d", r.name, r.send, r.body, a.Code, got, r.status)
			continue
		}
		for line := range strings.Lines(r.gives) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if have := a.Header().Get(name); have != value && (value != "*" || have == "") {
				t.Errorf("%s: %s is %q, want %q", r.name, name, have, value)
			}
		}
		if problem := matches(r.want, got); problem != "" {
			t.Errorf("%s: %s %.200s\n%s in\n%.2000s\nwant\n%s", r.name, r.send, r.body, problem, got, r.want)
		}
		if name, key, ok := strings.Cut(r.keep, "="); ok {
			var object map[string]json.RawMessage
			if err := json.Unmarshal([]byte(got), &object); err != nil || object[key] == nil {
				t.Fatalf("%s: no %s in %s", r.name, key, got)
			}
			kept[name] = strings.Trim(string(object[key]), `"`)
		} else if r.keep == "etag" {
			kept["etag"] = a.Header().Get("ETag")
		}
	}
}

func (s *served) do(t *testing.T, r row) *httptest.ResponseRecorder {
	t.Helper()
	method, target, _ := strings.Cut(r.send, " ")
	request := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(r.body))
	caller := keys.Identity{Role: keys.RoleAnon}
	for line := range strings.Lines(r.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case name != "Role":
			request.Header.Add(name, value)
		case value == keys.RoleService:
			caller.Role = value
		case value != keys.RoleAnon:
			caller = keys.Identity{Role: keys.RoleAuthenticated, Owner: value}
		}
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(request.URL.Path, "/"), "/")
	answer := httptest.NewRecorder()
	s.functions[name].Handler.ServeHTTP(answer, request.WithContext(wire.WithCaller(request.Context(), caller)))
	if answer.Body.Len() > 0 && method == http.MethodHead {
		answer.Body.Reset() // as net/http does
	}
	return answer
}

// answered returns a value of an answer's JSON.
func answered(t *testing.T, a *httptest.ResponseRecorder, key string) string {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(a.Body.Bytes(), &object); err != nil {
		t.Fatalf("%v in %.500s", err, a.Body)
	}
	return strings.Trim(string(object[key]), `"`)
}
