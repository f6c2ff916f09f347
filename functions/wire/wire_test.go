package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

func TestReadObject(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, want, details string }{
		{"bytes as they are", "{\"v\": {\"b\":1.50,\"a\":-0, \"b\":1e400, \"s\":\"\\u0000\\ud800<&>\"}}",
			"{\"b\":1.50,\"a\":-0, \"b\":1e400, \"s\":\"\\u0000\\ud800<&>\"}", ""},
		{"the last of two", `{"v":1,"v":2}`, "2", ""},
		{"byte order mark", "\ufeff{\"v\":1}", "1", ""},
		{"nothing", "", "", "unexpected end of JSON input"},
		{"not JSON", `{"v":}`, "", "at byte 6"},
		{"more than JSON", `{"v":1} x`, "", "after top-level value"},
		{"array", `[]`, "", "want an object, not array"},
		{"null", `null`, "", "want an object, not null"},
		{"number", `7`, "", "want an object, not number"},
		{"not UTF-8", "{\"v\":\"\xff\"}", "", "not UTF-8"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "", "the body is UTF-16: send UTF-8"},
		{"compressed", "\x1f\x8b\x08", "", "not UTF-8"},
		{"a form", "v=1&w=2", "", "at byte 1"},
		{"too deep", strings.Repeat("[", 20_000), "", "max depth"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			object, err := wire.ReadObject(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(test.body)))
			if test.details == "" {
				if err != nil || string(object["v"]) != test.want {
					t.Fatalf("v = %s, %v; want %s", object["v"], err, test.want)
				}
				return
			}
			p := wire.ProblemOf(err)
			if p.Status != 400 || p.Code != wire.CodeInvalidJSON || p.Message != "Invalid JSON request body." || !strings.Contains(p.Details, test.details) {
				t.Errorf("problem %+v, want details with %q", p, test.details)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	long := `"` + strings.Repeat("x", 100_000) + `"`
	for _, test := range []struct {
		name, raw, want string
		status          int
	}{
		{"spelling and order are kept", `{"b":1.50,"a":-0,"z":"<&>\u2028é\\"}`,
			"{\n  \"v\": {\n    \"b\": 1.50,\n    \"a\": -0,\n    \"z\": \"<&>\\u2028é\\\\\"\n  }\n}\n", 200},
		{"brackets in strings do not nest", `"` + strings.Repeat(`[\"`, 200) + `"`, "{\n  \"v\": \"" + strings.Repeat(`[\"`, 200) + "\"\n}\n", 200},
		{"deep is not indented", deep, `{"v":` + deep + "}\n", 200},
		{"long is not indented", long, `{"v":` + long + "}\n", 200},
		{"not JSON", `{`, `{"error":"The answer has no JSON form.","code":"INTERNAL_ERROR"}`, 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			wire.JSON(w, 200, map[string]json.RawMessage{"v": json.RawMessage(test.raw)})
			if w.Code != test.status || w.Body.String() != test.want {
				t.Errorf("%d %.300s\nwant %d %.300s", w.Code, w.Body, test.status, test.want)
			}
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

// TestContentType: a body that parses may be called anything; of one that does
// not, a form is named.
func TestContentType(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ kind, body, details string }{
		{"application/x-www-form-urlencoded", `{"v":1}`, ""},
		{"text/plain", `{"v":1}`, ""},
		{"nonsense;;", `{"v":1}`, ""},
		{"application/x-www-form-urlencoded", "v=1", "it is called a form, application/x-www-form-urlencoded: send a JSON object"},
		{"multipart/form-data; boundary=x", "--x\r\n", "it is called a form, multipart/form-data"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(test.body))
		r.Header.Set("Content-Type", test.kind)
		object, err := wire.ReadObject(r)
		if test.details == "" {
			if err != nil || string(object["v"]) != "1" {
				t.Errorf("%s: %s, %v", test.kind, object["v"], err)
			}
			continue
		}
		if p := wire.ProblemOf(err); !strings.Contains(p.Details, test.details) {
			t.Errorf("%s: %+v, want %q", test.kind, p, test.details)
		}
	}
}

func TestCompact(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	wire.Compact(w, 418, map[string]json.RawMessage{"v": json.RawMessage(`{"b":1.50,"a":"<&>"}`)})
	if want := "{\"v\":{\"b\":1.50,\"a\":\"<&>\"}}\n"; w.Code != 418 || w.Body.String() != want || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s, want %s", w.Code, w.Header(), w.Body, want)
	}
}

func TestTagged(t *testing.T) {
	t.Parallel()
	send := func(method, known string, value int) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/", nil)
		r.Header["If-None-Match"] = strings.Split(known, "|")
		w := httptest.NewRecorder()
		wire.Tagged(w, r, map[string]int{"v": value})
		return w
	}
	first := send(http.MethodGet, "", 1)
	tag := first.Header().Get("ETag")
	if first.Code != 200 || !strings.HasPrefix(tag, `W/"`) || first.Body.String() != "{\n  \"v\": 1\n}\n" || first.Header().Get("Cache-Control") != "private, no-cache" {
		t.Fatalf("%d %v %q", first.Code, first.Header(), first.Body)
	}
	for _, test := range []struct {
		name, method, known string
		value, status       int
	}{
		{"the same", "GET", tag, 1, 304},
		{"the same, HEAD", "HEAD", tag, 1, 304},
		{"the same, strong", "GET", strings.TrimPrefix(tag, "W/"), 1, 304},
		{"among others", "GET", `"a", ` + tag + `, "b"`, 1, 304},
		{"in a second header", "GET", `"a"|` + tag, 1, 304},
		{"any", "GET", "*", 1, 304},
		{"changed", "GET", tag, 2, 200},
		{"another", "GET", `"a"`, 1, 200},
		{"not for POST", "POST", tag, 1, 200},
	} {
		w := send(test.method, test.known, test.value)
		if w.Code != test.status || w.Header().Get("ETag") == "" || (w.Body.Len() > 0) != (test.status == 200) || (w.Header().Get("ETag") == tag) != (test.value == 1) {
			t.Errorf("%s: %d %v %q", test.name, w.Code, w.Header(), w.Body)
		}
	}
	w := httptest.NewRecorder()
	wire.Tagged(w, httptest.NewRequest(http.MethodGet, "/", nil), json.RawMessage("{"))
	if w.Code != 500 || !strings.Contains(w.Body.String(), "no JSON form") || w.Header().Get("ETag") != "" {
		t.Errorf("not JSON: %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ s, want string }{
		{"", ""},
		{strings.Repeat("x", 200), strings.Repeat("x", 200)},
		{strings.Repeat("x", 201), strings.Repeat("x", 200) + "…"},
		{"x" + strings.Repeat("é", 100), "x" + strings.Repeat("é", 99) + "…"}, // no half of a character
	} {
		if got := wire.Clip(test.s); got != test.want {
			t.Errorf("Clip(%.20q...) = %q", test.s, got)
		}
	}
}

// TestFailure: amber writes objects; clients of the original wrote texts too.
func TestFailure(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]service.Error{
		`{"message":"boom","name":"TypeError","stack":"at x"}`: {Message: "boom", Name: "TypeError", Stack: "at x"},
		`"boom"`:            {Message: "boom"},
		`{"reason":"boom"}`: {Message: `{"reason":"boom"}`},
		`["boom"]`:          {Message: `["boom"]`},
		``:                  {},
	} {
		if got := wire.Failure(json.RawMessage(raw)); got != want {
			t.Errorf("Failure(%s) = %+v, want %+v", raw, got, want)
		}
	}
}

func TestFail(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"problem", &wire.Problem{Status: 418, Code: "TEAPOT", Message: "m", Line: 3}, 418, `{"error":"m","code":"TEAPOT","line":3}`},
		{"a run that is gone", fmt.Errorf("act: %w", stack.ErrRunNotFound), 404, `{"error":"There is no such run any more.","code":"TASK_RUN_NOT_FOUND"}`},
		{"wrapped", fmt.Errorf("act: %w", service.Errorf(service.CodeTaskNotFound, "m")), 404, `{"error":"m","code":"TASK_NOT_FOUND"}`},
		{"its own status", &service.Error{Message: "m", Code: "X", Status: 409}, 409, `{"error":"m","code":"X"}`},
		{"a code of no status", &service.Error{Message: "m", Code: "X"}, 400, `{"error":"m","code":"X"}`},
		{"inner matters are not told", errors.New("password of the database"), 500,
			`{"error":"An unexpected server error occurred while processing the request.","code":"INTERNAL_ERROR"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			w := httptest.NewRecorder()
			wire.Fail(w, httptest.NewRequest(http.MethodGet, "/x", nil), slog.New(slog.NewTextHandler(&log, nil)), test.err)
			if got := strings.Join(strings.Fields(w.Body.String()), ""); w.Code != test.status || got != strings.Join(strings.Fields(test.want), "") {
				t.Errorf("%d %s, want %d %s", w.Code, got, test.status, test.want)
			}
			if logged := strings.Contains(log.String(), "request failed"); logged != (test.status >= 500) {
				t.Errorf("logged: %q", log.String())
			}
		})
	}
}

func TestCaller(t *testing.T) {
	t.Parallel()
	if got := wire.Caller(t.Context()).Role; got != keys.RoleAnon {
		t.Errorf("role of nobody: %q", got)
	}
	ctx := wire.WithCaller(t.Context(), keys.Identity{Role: keys.RoleService})
	if got := wire.Caller(ctx).Role; got != keys.RoleService {
		t.Errorf("role %q", got)
	}
}
