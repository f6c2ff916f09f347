package vm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

func TestCheckNamesThePlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code         string
		line, column int
	}{
		"line 3":          {"// a\n\nconst x = ;\n", 3, 11},
		"line 1":          {"const x = ;", 1, 11},
		"module":          {"export default 1;\nexport const x = ;", 2, 18},
		"cut off":         {"module.exports = {\n  a: 1,\n", 3, 1},
		"leaves its body": {"}}).task; (async function(){", 1, 0},
		"as an operand":   {"} + function(){", 1, 0},
		"as a generator":  {"} * function(){", 1, 0},
		"as a member":     {"}[x](){", 1, 0},
		"as a method":     {"}, b() {", 1, 0},
		"as a second":     {"}}), ({async b(){", 1, 0},
		"as a static":     {"} static {", 1, 0},
		"with a template": {"`", 1, 0},
		"with a comment":  {"/*", 1, 0},
		"super":           {"super.x", 1, 0},
		"an html comment": {"module.exports = 1 }\n<!-- x\n{", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var at *vm.SyntaxError
			if err := shared.Check(t.Context(), "task", c.code); !errors.As(err, &at) {
				t.Fatalf("Check: %v", err)
			}
			if at.File != "task.js" || at.Line < c.line || c.column > 0 && (at.Line != c.line || at.Column != c.column) {
				t.Errorf("%+v", at)
			}
			if out := start(t, c.code, ""); out.Err == nil || out.Err.Code != service.CodeInvalidTask || out.Err.Name != "SyntaxError" {
				t.Errorf("Start: %+v", out.Err)
			}
		})
	}
}

// TestCheckOfBrackets: code with a brace too many is not said to lack something alone.
func TestCheckOfBrackets(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"module.exports = () => {\n  return 1\n}\n}": "task.js:4:2: unexpected end of the code: a ( or [ is not closed, or there is a } too many",
		"module.exports = () => {\n  f(1, 2":         "task.js:2:9: unexpected end of the code: a ( or [ is not closed, or there is a } too many",
		"module.exports = () => {\n  return 1":       "task.js:2:11: unexpected end of the code",
	} {
		if err := shared.Check(t.Context(), "task", code); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", code, err, want)
		}
	}
}

// TestCheckRunsNothing: code that leaves its wrapper is parsed, never run.
func TestCheckRunsNothing(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"for (;;);", "} + (() => { for (;;); })() + function () {", "export default 1; for (;;);"} {
		_ = shared.Check(t.Context(), "task", code)
	}
}

func TestCheckOfDeepCode(t *testing.T) {
	t.Parallel()
	var e *service.Error
	err := shared.Check(t.Context(), "task", strings.Repeat("(", 1e5))
	if !errors.As(err, &e) || e.Code != service.CodeInvalidTask || e.Name != "RangeError" {
		t.Errorf("Check: %v", err)
	}
}

// TestCheckIsLimited: code that the parser would work on for minutes is refused,
// and a caller who leaves is let go.
func TestCheckIsLimited(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.CPU = 20 * time.Millisecond })
	code := strings.Repeat("(", 200) + strings.Repeat("1+", 1e6) + "1" + strings.Repeat(")", 200)
	var refused *service.Error
	if err := e.Check(t.Context(), "task", code); !errors.As(err, &refused) || refused.Code != service.CodeInvalidTask || refused.Message != "CPU time limit exceeded" {
		t.Errorf("Check: %v", err)
	}
	e = newEngine(t, func(o *vm.Options) { o.Concurrency, o.Limits.CPU = 1, time.Hour })
	ctx, leave := context.WithCancelCause(t.Context())
	why, left := errors.New("the caller left"), make(chan error, 1)
	go func() { left <- e.Check(ctx, "task", code) }()
	leave(why)
	if err := <-left; !errors.Is(err, why) {
		t.Errorf("Check: %v", err)
	}
	if err := e.Check(t.Context(), "task", "module.exports = () => 1"); err != nil {
		t.Error(err)
	}
}

func TestImportIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ code, message string }{
		{`import x from './y.js'; export default x`, `task.js:1: import of "./y.js": a task is one file: `},
		{`import 'qjs:os'; export default 1`, `task.js:1: import of "qjs:os": `},
		{`export * from "std"`, `task.js:1: import of "std": `},
		{"// import 'lodash'\nexport const name = 'lodash'\nimport {\n  map,\n} from 'lodash'", `task.js:3: import of "lodash": `},
		{"const a = 1;import*as b from'b';import'c'", `task.js:1: import of "b": `},
		{"export default 1\n/* */ import 'c'", `task.js: import of "c": `},
	} {
		var e *service.Error
		if err := shared.Check(t.Context(), "task", c.code); !errors.As(err, &e) || e.Code != service.CodeImportUnsupported || !strings.HasPrefix(e.Message, c.message) {
			t.Errorf("%s: %v", c.code, err)
		}
	}
}

// TestNoWayOut: none of the engine's own modules can be reached by any route.
func TestNoWayOut(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"qjs:std", "qjs:os", "qjs:bjson", "std", "os", "bjson", "<init_global>", "x.json", "amber:prelude", "-------"} {
		for _, route := range []string{"import(N)", "eval('import(' + JSON.stringify(N) + ')')", "(0, eval)('import(' + JSON.stringify(N) + ')')",
			"new Function('n', 'return import(n)')(N)", "(async () => { await 0; return import(N) })()"} {
			out := start(t, `module.exports = async (N) => { try { return Object.keys(await `+route+`) } catch (e) { return e.message } }`, `"`+name+`"`)
			wantResult(t, out, `"import of '`+name+`' is not supported"`)
		}
	}
	out := start(t, `module.exports = () => ['std','os','bjson','gc','print','navigator','scriptArgs','setInterval','QJS_PROXY_VALUE','fetch','process','Deno','WebAssembly','Buffer','URL','TextEncoder','TextDecoder','structuredClone','AbortController','atob','btoa','XMLHttpRequest','WebSocket','Intl'].filter(k => k in globalThis)`, "")
	wantResult(t, out, `[]`)
}
