package harness

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/amberhost/amber/internal/fault/audit"
)

// Report is what was done and what came of it.
type Report struct {
	Options     Options
	Took        time.Duration
	Kills       map[string]int // hosts that died at a point
	Unhit       []string       // points at which none died
	Faults      map[string]int
	Answers     map[string]int // of hosts to clients, by status
	Odd         []string       // what should not have happened, and breaks no promise
	Parked      int            // rows that nobody can go on with
	Quarantined int            // bodies that were let go on after five hosts were lost
	Removed     int            // runs besides the trees that hosts removed, since they had ended long ago
	Restless    int            // rows that had something left to do when the time to come to rest was over
	Audit       audit.Report
}

func newReport(o Options) Report {
	return Report{Options: o, Kills: map[string]int{}, Faults: map[string]int{}, Answers: map[string]int{}}
}

// Violations is how many there are.
func (r Report) Violations() int { return len(r.Audit.Violations) }

// String is the report as text.
func (r Report) String() string {
	var b strings.Builder
	fsync := "off"
	if r.Options.Fsync {
		fsync = "on"
	}
	fmt.Fprintf(&b, "seed %d, %d hosts, %d trees at once, fsync %s, %v\n\n", r.Options.Seed, r.Options.Hosts, r.Options.Flying, fsync, r.Took.Round(time.Second))
	b.WriteString(r.Audit.String())
	list := func(title string, counts map[string]int) {
		all := 0
		for _, n := range counts {
			all += n
		}
		fmt.Fprintf(&b, "\n%s: %d\n", title, all)
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&b, "%8d  %s\n", counts[name], name)
		}
	}
	list("faults", r.Faults)
	list("answers to clients, by status", r.Answers)
	list("kills at points", r.Kills)
	fmt.Fprintf(&b, "\npoints at which no host died: %d\n", len(r.Unhit))
	for _, point := range r.Unhit {
		fmt.Fprintf(&b, "          %s\n", point)
	}
	fmt.Fprintf(&b, "\nquarantined, and let go on: %d\nparked, since nobody can go on with them: %d\nremoved, since they had ended long ago: %d\n", r.Quarantined, r.Parked, r.Removed)
	if r.Restless > 0 {
		fmt.Fprintf(&b, "\n%d rows did not come to rest\n", r.Restless)
	}
	if len(r.Odd) > 0 {
		fmt.Fprintf(&b, "\nodd: %d\n", len(r.Odd))
		for _, odd := range r.Odd[:min(len(r.Odd), 50)] {
			fmt.Fprintf(&b, "  %s\n", odd)
		}
	}
	return b.String()
}
