package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestStuckBelow: a nested run that no host goes on with is shown, and its
// caller waits for whoever mends it.
func TestStuckBelow(t *testing.T) {
	t.Parallel()
	text := func(value string) *string { return &value }
	s := snapshot{
		Run: runRow{ID: "run", TaskName: "order", Status: "suspended", CreatedAt: time.Unix(0, 0)},
		Nodes: []node{
			{ID: "body", Service: "tasks", TaskName: "order", Status: "suspended_waiting_child", CreatedAt: time.Unix(0, 0)},
			{ID: "charge", ParentID: text("body"), Service: "tasks", TaskName: "charge", Status: "pending_resume", CreatedAt: time.Unix(0, 0), Stuck: "no key\x1b[2J k1"},
			{ID: "done", ParentID: text("body"), Service: "tasks", TaskName: "done", Status: "completed", CreatedAt: time.Unix(0, 0), Stuck: "once upon a time"},
		},
	}
	root := callTree(s)
	lines := drawTree(root, time.Unix(60, 0), paper{width: 80, height: 20})
	if got := fmt.Sprint(lines); !strings.Contains(got, "stuck: no key [2J k1") || strings.Contains(got, "once upon") {
		t.Errorf("%s", got)
	}

	out := newConsole()
	v := newLineView(out)
	v.show(scene{root: root, now: time.Unix(60, 0)})
	v.show(scene{root: root, now: time.Unix(61, 0)})
	s.Nodes[1].Stuck = ""
	v.show(scene{root: callTree(s), now: time.Unix(62, 0)})
	want := "   60.00s  order > charge: stuck: no key [2J k1\n   62.00s  order > charge: not stuck any more\n"
	if got := out.String(); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%swant at the end\n%s", got, want)
	}
}
