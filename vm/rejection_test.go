package vm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/vm"
)

// warnings are the first lines of what the host itself logged.
func warnings(out *vm.Outcome) []string {
	var lines []string
	for _, l := range out.Logs {
		if rest, ok := strings.CutPrefix(l.Message, "a promise was rejected and nothing awaited it: "); ok && l.Level == "warn" {
			first, _, _ := strings.Cut(rest, "\n")
			lines = append(lines, first)
		}
	}
	return lines
}

func TestUnhandledRejections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code string
		want []string
	}{
		{`Promise.reject(new Error('lost')); return 1`, []string{"Error: lost"}},
		{`(async () => { throw new TypeError('a') })(); Promise.reject('b'); Promise.resolve().then(() => { throw 7 }); await null; return 1`, []string{"TypeError: a", "b", "the task threw 7"}},
		{`const p = Promise.reject(new Error('in time')); await null; await null; try { await p } catch {} return 1`, nil},
		{`Promise.reject(new Error('caught')).catch(() => {}); return 1`, nil},
		{`await Promise.allSettled([Promise.reject(1), (async () => { throw 2 })()]); return 1`, nil},
		{`new Promise((_, reject) => { reject({ get message() { Promise.reject('more'); return 'first' } }) }); return 1`, []string{"first", "more"}},
		{`class Mine extends Promise {} Mine.reject(new Error('mine')); return 1`, []string{"Error: mine"}},
		{`tools.timer(1).catch(() => {}); return 1`, nil},
	} {
		out := start(t, `module.exports = async () => { `+c.code+` }`, "")
		wantResult(t, out, "1")
		if got := warnings(out); !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %q\nwant %q", c.code, got, c.want)
		}
	}
	out := start(t, `module.exports = async () => { for (let i = 0; i < 1e5; i++) Promise.reject(i); return 1 }`, "")
	if n := len(warnings(out)); n != 100 {
		t.Errorf("%d warnings", n)
	}
	for _, code := range []string{`module.exports = async () => { throw new Error('end') }`, `throw new Error('end')`, `export default 1; throw new Error('end')`, `export default async () => { throw new Error('end') }`} {
		if out := start(t, code, ""); out.Err == nil || len(out.Logs) > 0 {
			t.Errorf("%s: error %v, logs %v", code, out.Err, out.Logs)
		}
	}
}

// TestRejectionAcrossWait: a promise is reported in the slice that rejects it,
// with the lines it comes from, whichever process that is in.
func TestRejectionAcrossWait(t *testing.T) {
	t.Parallel()
	out := start(t, "module.exports = async () => {\n  const late = (async () => { await tools.a.b(); throw new Error('late') })();\n  await tools.c.d(); await tools.e.f(); try { await late } catch (e) { return e.message }\n}", "")
	if len(out.Logs) > 0 {
		t.Errorf("logs %v", out.Logs)
	}
	out = resume(t, out, value(1, "1"))
	if got := warnings(out); !slices.Equal(got, []string{"Error: late"}) || !strings.Contains(out.Logs[0].Message, "(task.js:2:") {
		t.Errorf("logs %q", out.Logs)
	}
	out = resume(t, out, value(2, "1"))
	wantResult(t, resume(t, out, value(3, "1")), `"late"`)
}
