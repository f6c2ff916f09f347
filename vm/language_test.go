package vm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/fastschema/qjs"
)

// check is an entry of testdata/language.txt.
type check struct {
	name, program string
	node          string // JSON text of what the program returns in Node
	quickjs       string // and what it returns here, if that differs
	because       string
}

func (c check) want() string {
	if c.quickjs != "" {
		return c.quickjs
	}
	return c.node
}

// readChecks returns the helpers that all programs see, and the checks.
func readChecks(t *testing.T) (helpers string, checks []check) {
	t.Helper()
	data, err := os.ReadFile("testdata/language.txt")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(data), "\n=== ")
	for line := range strings.Lines(head + "\n") {
		if !strings.HasPrefix(line, "#") {
			helpers += line
		}
	}
	for entry := range strings.SplitSeq(rest, "\n=== ") {
		checks = append(checks, parseCheck(entry))
	}
	return helpers, checks
}

func parseCheck(entry string) (c check) {
	c.name, entry, _ = strings.Cut(entry, "\n")
	for line := range strings.Lines(entry) {
		text := strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(text, "=> "); ok {
			c.node = v
		} else if v, ok := strings.CutPrefix(text, "quickjs => "); ok {
			c.quickjs = v
		} else if v, ok := strings.CutPrefix(text, "because "); ok {
			c.because = v
		} else {
			c.program += line
		}
	}
	return c
}

// TestLanguage runs programs whose results were recorded from Node, in a task
// and in the engine as it is shipped: what is done to the engine to contain
// tasks changes nothing of the language. See testdata/record-language.mjs.
func TestLanguage(t *testing.T) {
	t.Parallel()
	helpers, checks := readChecks(t)
	if len(checks) < 300 {
		t.Errorf("%d checks", len(checks))
	}
	names := map[string]bool{}
	for _, c := range checks {
		if names[c.name] || c.node == "" || c.node == c.quickjs || (c.quickjs == "") != (c.because == "") {
			t.Errorf("%s: its name is taken, its value is not recorded, or a difference is none or has no reason", c.name)
		}
		names[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			program := fmt.Sprintf("%s\nreturn (async () => {\n%s\n})()", helpers, c.program)
			out := start(t, "module.exports = () => {\n"+program+"\n}", "")
			got := string(out.Result)
			if out.Err != nil {
				got = "thrown: " + out.Err.Message
			}
			if got != c.want() {
				t.Errorf("%s\n in a task %s\n  expected %s\n      node %s", c.program, got, c.want(), c.node)
			}
			if shipped := runShipped(t, program); shipped != got {
				t.Errorf("%s\n in a task %s\nas shipped %s", c.program, got, shipped)
			}
		})
	}
}

// runShipped returns the JSON text of what a function body returns, or resolves
// to, in QuickJS as github.com/fastschema/qjs has it.
func runShipped(t *testing.T, body string) string {
	t.Helper()
	r, err := qjs.New(qjs.Option{CWD: t.TempDir(), CacheDir: cacheDir(), MemoryLimit: 64 << 20, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { // a trap is a panic there, after which the runtime cannot even be closed
		if trap := recover(); trap != nil {
			t.Fatalf("%s\nas shipped the engine stopped: %.300v", body, trap)
		}
		r.Close()
	}()
	source, err := json.Marshal("(() => {\n" + body + "\n})()")
	if err != nil {
		t.Fatal(err)
	}
	// Eval is strict; code that is evaluated by an indirect eval is not. It also
	// runs the jobs until the promise that it gets is settled.
	v, err := r.Eval("task.js", qjs.Code(fmt.Sprintf("(0, eval)(%s).then((v) => JSON.stringify(v), (e) => 'thrown: ' + e.message)", source)))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Free()
	if v.IsPromise() {
		if v, err = v.Await(); err != nil {
			t.Fatal(err)
		}
	}
	return v.String()
}
