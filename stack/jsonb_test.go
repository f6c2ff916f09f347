package stack

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
)

// TestCheckJSONBAgreesWithPostgres: what passes the check goes into jsonb, what
// does not is refused by Postgres too (or is our own limit), and the message
// names the path.
func TestCheckJSONBAgreesWithPostgres(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.NewEmpty(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, c := range []struct{ raw, want string }{
		{`null`, ""}, {`true`, ""}, {` { } `, ""}, {`[]`, ""}, {`""`, ""}, {`-0`, ""}, {`[ 1 , 2.5e-3 , -7E+2 ]`, ""},
		{`{"a":{"b":[1,{"c":"\u0041\ud83d\ude00\\u0000"}]}}`, ""},
		{`"\\ud800"`, ""},
		{`"ü\"\\\/\b\f\n\r\t"`, ""},
		{strings.Repeat("[", 1500) + strings.Repeat("]", 1500), ""},
		{`1e131000`, ""}, {`1e-16000`, ""},
		{`"\u0000"`, `$ holds \u0000`},
		{`{"a":[0,{"b":"x\u0000"}]}`, `$.a[1].b holds \u0000`},
		{`{"k\u0000":1}`, `$ holds \u0000`},
		{`{"x":{"a\ud800":1}}`, `$.x holds a lone surrogate \ud800`},
		{`["\ud800"]`, `$[0] holds a lone surrogate \ud800`},
		{`["\udc00\ud800"]`, `$[0] holds a lone surrogate \udc00`},
		{`["\ud800\ud800\udc00"]`, `$[0] holds a lone surrogate \ud800`},
		{`["\ud800\\udc00"]`, `$[0] holds a lone surrogate \ud800`},
		{`[1e200000]`, `$[0] is a number outside`},
		{`{"n":-1E+999999999999999999999}`, `$.n is a number outside`},
		{`[1e-20000]`, `$[0] is a number outside`},
	} {
		var stored bool
		_, pgErr := conn.Exec(t.Context(), `select $1::jsonb`, c.raw)
		stored = pgErr == nil
		err := checkJSONB(json.RawMessage(c.raw))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%.60s: %v", c.raw, err)
		case c.want == "" && !stored:
			t.Errorf("%.60s passes the check, but Postgres says %v", c.raw, pgErr)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%.60s: %v, want %q", c.raw, err, c.want)
		case c.want != "" && stored:
			t.Errorf("%.60s is refused, but Postgres takes it", c.raw)
		}
	}
	if err := checkJSONB(json.RawMessage(strings.Repeat(`{"a":[`, 2000) + strings.Repeat("]}", 2000))); err == nil || !strings.Contains(err.Error(), "nests deeper than 2000") {
		t.Errorf("deep: %v", err)
	}
}

// FuzzCheckJSONB: no valid JSON text makes the check panic.
func FuzzCheckJSONB(f *testing.F) {
	for _, s := range []string{`{"a":[1,"\ud83d\ude00",{"b":null}]}`, `"\u0000"`, `[-0.5e+7]`, ` [ ] `, `{"":{"":""}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if json.Valid([]byte(s)) {
			_ = checkJSONB(json.RawMessage(s))
		}
	})
}
