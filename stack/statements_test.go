package stack_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/internal/fault/points"
)

// TestEveryStatementIsAPoint: each statement and each transaction of the store has
// a name of its own, at which the fault harness can stop a host; operators find it
// in pg_stat_activity and pg_stat_statements.
func TestEveryStatementIsAPoint(t *testing.T) {
	t.Parallel()
	all, problems, err := points.List(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(problems) > 0 {
		t.Errorf("%s", strings.Join(problems, "\n"))
	}
	for _, want := range []string{"statement Suspend: bodies", "statement Suspend: key frames", "commit suspend stack run", "committed complete stack run",
		"statement Claim", "done Claim", "statement replies", "statement ParkTooLarge"} {
		if !slices.Contains(all, want) {
			t.Errorf("%q is not among %q", want, all)
		}
	}
}
