package harness_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/amberhost/amber/internal/fault/harness"
	"github.com/amberhost/amber/internal/pgtest"
)

// treesEnv is how many trees TestPromises plays.
const treesEnv = "AMBER_TEST_TREES"

// TestPromises: with everything failing that can be made to fail, the auditor
// finds no promise broken. The long form is a command: see docs/faults.md.
func TestPromises(t *testing.T) {
	t.Parallel()
	o := harness.Options{Dir: t.TempDir(), Data: pgtest.Dir(t), Seed: 1, Trees: 300, Flying: 60, Every: 800 * time.Millisecond}
	if text := os.Getenv(treesEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", treesEnv, err)
		}
		o.Trees = n
	}
	o.Say = t.Output()
	report, err := harness.Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	t.Logf("\n%s", report)
	if n := report.Violations(); n > 0 {
		t.Errorf("%d violations", n)
	}
	if report.Restless > 0 {
		t.Errorf("%d rows did not come to rest", report.Restless)
	}
	if len(report.Odd) > 0 {
		t.Errorf("odd: %q", report.Odd)
	}
	if report.Removed == 0 {
		t.Error("hosts removed no run that had ended long ago")
	}
	kills, faults := 0, 0
	for _, n := range report.Kills {
		kills += n
	}
	for _, n := range report.Faults {
		faults += n
	}
	if kills < o.Trees/30 || faults < 5 || report.Audit.Repeated == 0 || report.Audit.Trees != o.Trees {
		t.Errorf("%d trees, %d hosts died at points, %d other faults, %d effects repeated: too little was disturbed",
			report.Audit.Trees, kills, faults, report.Audit.Repeated)
	}
}
