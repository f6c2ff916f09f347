package host_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

func testCORS(t *testing.T, r *running) {
	for path, want := range map[string]int{"/functions/v1/tasks/execute": 200, "/functions/v1/publish": 204, "/functions/v1/nothing": 204} {
		a := r.do(t, "OPTIONS", path, "", "Origin: https://app.example", "Access-Control-Request-Method: POST")
		if a.status != want || a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "POST") {
			t.Errorf("OPTIONS %s: %d %v", path, a.status, a.header)
		}
		for _, name := range []string{"authorization", "x-client-info", "apikey", "content-type", "prefer"} {
			if !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), name) {
				t.Errorf("OPTIONS %s: %s is not allowed", path, name)
			}
		}
	}
	a := r.do(t, "GET", "/functions/v1/tasks", "", "Origin: https://app.example")
	if a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Preference-Applied") {
		t.Errorf("GET: %v", a.header)
	}
	id, err := uuid.Parse(a.header.Get("sb-request-id"))
	if err != nil || id.Version() != 7 {
		t.Errorf("request id %q", a.header.Get("sb-request-id"))
	}
}

// testOpen: an open host takes callers of its machine as they come, and no
// foreign pages.
func testOpen(t *testing.T, r *running) {
	const code = `{"name":"opened","code":"module.exports = () => 1"}`
	for _, test := range []struct {
		header string
		status int
	}{
		{"X-Nothing: 1", 200},
		{"apikey: your-anon-key", 200},
		{"Authorization: Bearer rubbish", 200},
		{"apikey: " + r.info.AnonKey, 200},
		{"Origin: http://localhost:3000", 200},
		{"Origin: http://127.0.0.1:54323", 200},
		{"Origin: http://[::1]:5173", 200},
		{"Origin: https://evil.example", 403},
		{"Origin: http://localhost.evil.example", 403},
		{"Origin: null", 403},
	} {
		if a := r.do(t, "POST", "/functions/v1/publish", code, test.header); a.status != test.status {
			t.Errorf("%s: %d %s", test.header, a.status, a.body)
		}
	}
	for _, header := range []string{"Origin: https://evil.example", "Host: evil.example"} { // a page, a page under a name that leads here
		for _, call := range [][2]string{{"POST", "/functions/v1/publish"}, {"POST", "/functions/v1/tasks/execute"}, {"GET", "/functions/v1/tasks/list"}} {
			a := r.do(t, call[0], call[1], code, header, "apikey: "+r.info.SecretKey) // a key that everybody knows
			if a.status != 403 || a.text(t, "code") != "FOREIGN_ORIGIN" {
				t.Errorf("%s %s: %d %s", call, header, a.status, a.body)
			}
		}
	}
	if a := r.do(t, "GET", "/", ""); a.status != 200 || a.text(t, "name") != "amber" || !strings.Contains(a.body, "/functions/v1/tasks") {
		t.Errorf("index: %d %s", a.status, a.body)
	}
	if a := r.do(t, "GET", "/health", ""); a.status != 200 || a.text(t, "status") != "ok" || a.text(t, "database") != "ok" {
		t.Errorf("health: %d %s", a.status, a.body)
	}
}

// user signs a token as the project's auth server would.
func user(t *testing.T, claims map[string]any) string {
	t.Helper()
	token, err := keys.SignJWT(keys.Local().JWTSecret, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestClosed is the table of who may call what on a host that is not open.
func TestClosed(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *host.Config) {
		c.Open = false
		c.TasksDir = tasksDir(t, wireTasks)
	})
	local := keys.Local()
	anyone := func(role string) string {
		return user(t, map[string]any{"role": role, "exp": time.Now().Add(time.Hour).Unix()})
	}
	expired := user(t, map[string]any{"role": "service_role", "exp": time.Now().Add(-time.Hour).Unix()})
	foreign, err := keys.SignJWT("another secret that is long enough to sign", map[string]any{"role": "service_role"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, header   string
		tasks, publish int
		code           string // sb-error-code where refused
	}{
		{"nothing", "X-Nothing: 1", 401, 401, keys.CodeNoCredential},
		{"the literal of old clients", "apikey: your-anon-key", 401, 401, keys.CodeInvalidFormat},
		{"basic", "Authorization: Basic YTpi", 401, 401, keys.CodeInvalidFormat},
		{"foreign token", "Authorization: Bearer " + foreign, 401, 401, keys.CodeLegacyJWT},
		{"expired token", "Authorization: Bearer " + expired, 401, 401, keys.CodeLegacyJWT},
		{"anon", "apikey: " + local.AnonKey, 200, 403, "FORBIDDEN"},
		{"anon as bearer", "Authorization: Bearer " + local.AnonKey, 200, 403, "FORBIDDEN"},
		{"publishable", "apikey: " + local.PublishableKey, 200, 403, "FORBIDDEN"},
		{"user", "Authorization: Bearer " + anyone("authenticated"), 200, 403, "FORBIDDEN"},
		{"secret", "apikey: " + local.SecretKey, 200, 200, ""},
		{"secret as bearer", "Authorization: Bearer " + local.SecretKey, 200, 200, ""},
		{"service role", "Authorization: Bearer " + local.ServiceRoleKey, 200, 200, ""},
		{"service role of ours", "Authorization: Bearer " + anyone("service_role"), 200, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if a := r.do(t, "GET", "/functions/v1/tasks", "", test.header); a.status != test.tasks {
				t.Errorf("tasks: %d %s", a.status, a.body)
			}
			a := r.do(t, "POST", "/functions/v1/publish", `{"name":"closed","code":"module.exports = () => 1"}`, test.header)
			if a.status != test.publish || a.header.Get("sb-error-code") != test.code {
				t.Errorf("publish: %d %s", a.status, a.body)
			}
			if test.code != "" && (a.text(t, "code") != test.code || a.text(t, "message") == "" || a.text(t, "msg") != a.text(t, "message") || a.text(t, "error") == "") {
				t.Errorf("refusal: %s", a.body)
			}
		})
	}
	t.Run("without a key", func(t *testing.T) { t.Parallel(); testKeyless(t, r) })
	t.Run("owner", func(t *testing.T) { t.Parallel(); testOwner(t, r) })
}

func testKeyless(t *testing.T, r *running) {
	for path, want := range map[string]int{"/health": 200, "/": 200, "/functions/v1/nothing": 404} {
		if a := r.do(t, "GET", path, ""); a.status != want {
			t.Errorf("GET %s: %d", path, a.status)
		}
	}
	if a := r.do(t, "OPTIONS", "/functions/v1/publish", ""); a.status != 204 {
		t.Errorf("preflight: %d %s", a.status, a.body)
	}
}

// testOwner: what a user started, other users do not see.
func testOwner(t *testing.T, r *running) {
	bearer := func(sub string) string {
		return "Authorization: Bearer " + user(t, map[string]any{"role": "authenticated", "sub": sub})
	}
	const ann, bob = "6f1d2c3a-0000-4000-8000-00000000000a", "6f1d2c3a-0000-4000-8000-00000000000b"
	run := r.do(t, "POST", execute, `{"taskName":"echo","input":1}`, bearer(ann), "Prefer: wait=30")
	if run.status != 200 || run.text(t, "owner") != ann {
		t.Fatalf("execute: %d %s", run.status, run.body)
	}
	for header, want := range map[string]int{
		bearer(ann): 200, bearer(bob): 404, "apikey: " + r.info.AnonKey: 404, "apikey: " + r.info.SecretKey: 200,
	} {
		if a := r.do(t, "GET", "/functions/v1/tasks/result/"+run.text(t, "id"), "", header); a.status != want {
			t.Errorf("%.40s: %d %s", header, a.status, a.body)
		}
	}
}

// TestLog: one line per request, and nothing of what it says.
func TestLog(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *host.Config) { c.TasksDir = tasksDir(t, map[string]string{"echo.js": wireTasks["echo.js"]}) })
	a := r.do(t, "POST", execute+"?q=hidden-query", `{"taskName":"echo","input":"hidden-input"}`, "Prefer: wait=30", "apikey: "+r.info.SecretKey)
	line := r.lines.await(t, "msg=request", "status=200", "method=POST", "path="+execute, "duration=", "request="+a.header.Get("sb-request-id"))
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"hidden", r.info.SecretKey, r.info.ServiceRoleKey, r.info.JWTSecret} {
		if strings.Contains(line+r.lines.rest(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// TestGateway: what the gateway does for functions that are not amber's own.
func TestGateway(t *testing.T) {
	t.Parallel()
	lines := make(logLines, 100)
	config := host.Config{Open: true, Keys: keys.Local(), Log: slog.New(slog.NewTextHandler(lines, nil)), BodyLimit: 10}
	gateway := httptest.NewServer(host.NewGateway(config, []functions.Function{
		{Name: "panics", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(errors.New("secret matter")) })},
		{Name: "streams", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "first")
			w.(http.Flusher).Flush()
			<-r.Context().Done() // nothing more until the client has read this and left
		})},
		{Name: "path", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "https://only.example")
			fmt.Fprint(w, r.Method, " ", r.URL.EscapedPath(), " ", r.URL.RawQuery)
		})},
		{Name: "reads", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := wire.ReadObject(r); err != nil {
				wire.Fail(w, r, config.Log, err)
			}
		})},
	}))
	t.Cleanup(gateway.Close)
	get := func(method, path string, body io.Reader) answer {
		request, err := http.NewRequestWithContext(t.Context(), method, gateway.URL+"/functions/v1"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := gateway.Client().Do(request)
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
	if a := get("GET", "/panics", nil); a.status != 500 || a.text(t, "code") != "INTERNAL_ERROR" || strings.Contains(a.body, "secret") {
		t.Errorf("panic: %d %s", a.status, a.body)
	}
	lines.await(t, "panic in a request", "secret matter", "gateway_test.go")
	a := get("PATCH", "/path/a%2Fb//c?x=%20", nil)
	if a.body != "PATCH /path/a%2Fb//c x=%20" || a.header.Get("Access-Control-Allow-Origin") != "https://only.example" {
		t.Errorf("path: %s %v", a.body, a.header)
	}
	if line := lines.await(t, "msg=request"); !strings.Contains(line, "method=GET") || !strings.Contains(line, "status=500") {
		t.Errorf("first request in the log: %s", line)
	}
	lines.await(t, "msg=request", "method=PATCH")
	get("GET", "/path", nil)
	get("HEAD", "/path", nil)
	get("GET", "/nothing", nil)
	if line := lines.await(t, "msg=request"); !strings.Contains(line, "path=/functions/v1/nothing status=404") {
		t.Errorf("a request that only looked is in the log: %s", line)
	}
	if a := get("OPTIONS", "/path", nil); !strings.HasPrefix(a.body, "OPTIONS /path") {
		t.Errorf("a preflight that the function answers: %d %s", a.status, a.body)
	}
	response, err := gateway.Client().Get(gateway.URL + "/functions/v1/streams")
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len("first"))
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first" {
		t.Errorf("stream: %q, %v", first, err)
	}
	response.Body.Close()
	// A body of unknown length is cut off where the limit is.
	if a := get("POST", "/reads", io.MultiReader(strings.NewReader(`{"a":"0123456789"}`))); a.status != 413 {
		t.Errorf("chunked: %d %s", a.status, a.body)
	}
}
