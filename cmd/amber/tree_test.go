package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// noon is when every tree of these tests is drawn; a turn of the spinner begins then.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// leaf is a call that began a second before noon.
func leaf(label string, p phase) *call {
	c := &call{id: label, label: label, phase: p, started: ago(time.Second)}
	if p.over() {
		c.ended = ago(500 * time.Millisecond)
	}
	return c
}

func under(c *call, children ...*call) *call {
	c.children = children
	return c
}

func many(n int, label string, p phase) []*call {
	calls := make([]*call, n)
	for i := range calls {
		calls[i] = leaf(fmt.Sprintf("%s #%d", label, i+1), p)
	}
	return calls
}

func TestDrawTree(t *testing.T) {
	t.Parallel()
	wide := paper{width: 60, height: 20}
	tests := map[string]struct {
		root  *call
		paper paper
		want  string
	}{
		"one task": {leaf("hello", completed), wide, `
✓ hello  completed   500ms`},
		"calls under control": {
			under(leaf("order", waiting),
				&call{label: "charge", phase: sleeping, started: ago(time.Second), due: noon.Add(8 * time.Second), tries: 2, lastTry: "503"},
				&call{label: "mail", phase: completed, started: ago(time.Second), ended: ago(0), tries: 1, lastTry: "no host"},
				&call{label: "bank", phase: failed, started: ago(time.Second), ended: ago(0), tries: 3, lastTry: "down", reason: "down"},
				&call{label: "slow", phase: running, started: ago(time.Second), deadline: noon.Add(5 * time.Second)},
				&call{label: "slower", phase: failed, started: ago(time.Second), ended: ago(0), reason: "out of time", late: true},
				&call{label: "child", phase: waiting, started: ago(time.Second), deadline: noon.Add(9 * time.Second), ending: "cancel"}), paper{width: 100, height: 20}, `
◐ order      waiting      1.0s
├─ ◷ charge  sleeping     1.0s  tries again in 8.0s after 2 tries that failed: 503
├─ ✓ mail    completed    1.0s  after a try that failed: no host
├─ ✗ bank    failed       1.0s  down (tried 4 times)
├─ ⠋ slow    running      1.0s  times out in 5.0s
├─ ✗ slower  failed       1.0s  out of time; its answer came too late
└─ ◐ child   waiting      1.0s  is being cancelled, has 9.0s to tidy up`},
		"each state": {
			under(leaf("order", waiting),
				under(leaf("reserve", completed), leaf("sleep", completed)),
				&call{label: "charge", phase: failed, started: ago(2 * time.Second), ended: ago(0), reason: "declined"},
				&call{label: "sleep", phase: sleeping, started: ago(0), due: noon.Add(90 * time.Second)},
				leaf("square", running), leaf("race", cancelled), leaf("later", queued)), wide, `
◐ order        waiting      1.0s
├─ ✓ reserve   completed   500ms
│  └─ ✓ sleep  completed   500ms
├─ ✗ charge    failed       2.0s  declined
├─ ◷ sleep     sleeping      0ms  wakes in 1m30s
├─ ⠋ square    running      1.0s
├─ ⊘ race      cancelled   500ms
└─ ○ later     queued`},
		"fan-out, all at work": {under(leaf("fan-out", waiting), many(20, "square", running)...), paper{60, 5, false}, `
◐ fan-out       waiting      1.0s
├─ ⠋ square #1  running      1.0s
├─ ⠋ square #2  running      1.0s
├─ ⠋ square #3  running      1.0s
└─ … and 17 more (17 running)`},
		"fan-out, most of it done": {
			under(leaf("fan-out", waiting), append(many(15, "done", completed), many(5, "square", running)...)...), paper{60, 5, false}, `
◐ fan-out       waiting      1.0s
├─ ⠋ square #1  running      1.0s
├─ ⠋ square #2  running      1.0s
├─ ⠋ square #3  running      1.0s
└─ … and 17 more (15 completed, 2 running)`},
		"loop: the latest after those before": {
			under(leaf("loop", waiting), append(many(99, "square", completed), leaf("now", running))...), paper{60, 5, false}, `
◐ loop           waiting      1.0s
├─ … and 97 more (97 completed)
├─ ✓ square #98  completed   500ms
├─ ✓ square #99  completed   500ms
└─ ⠋ now         running      1.0s`},
		"too narrow": {under(leaf("a-long-name-of-a-task", waiting), leaf("日本語の名前のタスク", failed)), paper{24, 9, false}, `
◐ a-long-nam…  waiting
└─ ✗ 日本語の名…`},
		"names that differ at the end": {under(leaf("a", waiting), leaf("warehouse-inventory", completed), leaf("warehouse-inventory #14", completed)), paper{39, 9, false}, `
◐ a                  waiting      1.0s
├─ ✓ warehouse-inv…  completed   500ms
└─ ✓ warehouse… #14  completed   500ms`},
		"40 columns and a note": {under(leaf("order-fulfilment", waiting),
			&call{label: "charge-card", phase: failed, started: ago(time.Second), ended: ago(0), reason: "the bank did not answer"},
			&call{label: "sleep", phase: sleeping, started: ago(0), due: noon.Add(90 * time.Second)},
			&call{label: "b", phase: failed, started: ago(time.Second), ended: ago(0), reason: "no"}), paper{39, 9, false}, `
◐ order-fulfilment  waiting      1.0s
├─ ✗ charge-card    the bank did not a…
├─ ◷ sleep          wakes in 1m30s
└─ ✗ b              failed     no`},
		"deeper than the screen": {chain(12), paper{60, 5, false}, `
◐ t12                           waiting      1.0s
└─ ◐ t11                        waiting      1.0s
… 9 more lines
                              └─ ◐ t1  waiting      1.0s
                                 └─ ◐ t0  waiting      1.0s`},
		"a name that would move the cursor": {leaf("a\x1b[2Jb\nc\u202e", completed), wide, `
✓ a [2Jb c   completed   500ms`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := drawTree(test.root, noon, test.paper)
			if got := strings.Join(lines, "\n"); got != strings.TrimPrefix(test.want, "\n") {
				t.Errorf("got\n%s\nwant%s", got, test.want)
			}
			if len(lines) > test.paper.height {
				t.Errorf("%d lines, at most %d fit", len(lines), test.paper.height)
			}
			for _, line := range lines {
				if w := columns.StringWidth(line); w > test.paper.width {
					t.Errorf("%d columns, at most %d fit: %s", w, test.paper.width, line)
				}
			}
		})
	}
}

func chain(depth int) *call {
	c := leaf("t0", waiting)
	for i := range depth {
		c = under(leaf(fmt.Sprintf("t%d", i+1), waiting), c)
	}
	return c
}

func TestDrawTreeInColour(t *testing.T) {
	t.Parallel()
	root := under(leaf("order", waiting), leaf("charge", failed))
	got := strings.Join(drawTree(root, noon, paper{60, 9, true}), "\n")
	for _, want := range []string{"\x1b[34m◐\x1b[0m", "\x1b[31m✗\x1b[0m", "\x1b[2m└─ \x1b[0m"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestCallTree(t *testing.T) {
	t.Parallel()
	// The answer of /tasks/tree; r is the run's own body.
	var s snapshot
	if err := json.Unmarshal([]byte(`{
		"run": {"id": "run", "task_name": "nested", "status": "suspended", "created_at": "2026-03-01T11:59:59Z"},
		"nodes": [
			{"id": "r", "parent_stack_run_id": null, "service_name": "tasks", "method_name": "execute", "task_name": "nested", "status": "suspended_waiting_child", "created_at": "2026-03-01T11:59:59Z"},
			{"id": "a", "parent_stack_run_id": "r", "service_name": "tasks", "method_name": "execute", "task_name": "nested", "status": "suspended_waiting_child", "created_at": "2026-03-01T11:59:59Z"},
			{"id": "b", "parent_stack_run_id": "a", "service_name": "sleep", "method_name": "sleep", "task_name": "", "status": "sleeping", "created_at": "2026-03-01T11:59:59Z", "due_at": "2026-03-01T12:00:01Z"},
			{"id": "c", "parent_stack_run_id": "r", "service_name": "keystore", "method_name": "getKey", "status": "failed", "created_at": "2026-03-01T11:59:59Z", "ended_at": "2026-03-01T12:00:00Z", "error": {"message": "no such key", "code": "X"}},
			{"id": "d", "parent_stack_run_id": "r", "service_name": "sleep", "method_name": "sleep", "status": "pending", "created_at": "2026-03-01T11:59:59Z"},
			{"id": "e", "parent_stack_run_id": "r", "service_name": "sleep", "method_name": "sleep", "status": "completed", "created_at": "2026-03-01T11:59:59Z", "started_at": "2026-03-01T11:59:59.5Z", "ended_at": "2026-03-01T12:00:00Z"}
		]}`), &s); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(drawTree(callTree(s), noon, paper{60, 20, false}), "\n")
	want := `◐ nested              waiting      1.0s
├─ ◐ nested           waiting      1.0s
│  └─ ◷ sleep         sleeping     1.0s  wakes in 1.0s
├─ ✗ keystore.getKey  failed       1.0s  no such key
├─ ○ sleep            queued
└─ ✓ sleep #2         completed   500ms`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/usr/bin/amber":  "/usr/bin/amber",
		"/my tools/amber": "'/my tools/amber'",
		"it's":            `'it'\''s'`,
		"":                "''",
		"é":               "'é'",
	} {
		if got := quoted(text); got != want {
			t.Errorf("quoted(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second:                 "0ms",
		35 * time.Millisecond:        "35ms",
		1999 * time.Millisecond:      "1.9s",
		59999 * time.Millisecond:     "59.9s",
		125 * time.Second:            "2m05s",
		3*time.Hour + 10*time.Minute: "3h10m",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
}
