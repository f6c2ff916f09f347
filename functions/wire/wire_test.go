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

func TestFail(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"problem", &wire.Problem{Status: 418, Code: "TEAPOT", Message: "m", Line: 3}, 418, `{"error":"m","code":"TEAPOT","line":3}`},
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
