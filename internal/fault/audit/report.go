package audit

import (
	"fmt"
	"strings"
)

// Promises are what is promised, I1 first.
var Promises = [...]string{
	"a completed call's reply is never changed or lost",
	"a task never observes two results for one await",
	"no two hosts commit for one run at once",
	"a run ends, or is parked with a wake condition, or is listed as stuck",
	"resuming equals never having stopped",
	"a service sees one idempotency key per call",
	"no secret of the host in a snapshot, log or row",
}

// Violation is one broken promise.
type Violation struct {
	Promise   int    // 1 to 7
	Check     string // what found it, in a few words
	ID        string // of the row, run or call
	Want, Got string
}

func (v Violation) String() string {
	return fmt.Sprintf("I%d %s: %s: want %s, got %s", v.Promise, v.Check, v.ID, v.Want, v.Got)
}

// Report is what an audit found.
type Report struct {
	Trees, Runs, Calls int
	Effects            int // entries of the ledger
	Repeated           int // those of them under a key that had been seen
	Changes            int // rows of the history
	Rest               bool
	Violations         []Violation // by promise
}

// Count returns how many violations of a promise, 1 to 7, there are.
func (r Report) Count(promise int) (n int) {
	for _, v := range r.Violations {
		if v.Promise == promise {
			n++
		}
	}
	return n
}

// shown is how many violations of one promise the text form spells out.
const shown = 20

// String is the report as text: the counts, a line for each promise, and the
// violations, the first 20 of each.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "trees %d, runs %d, calls %d, effects %d, repeated effects %d, changes of rows %d\n\n",
		r.Trees, r.Runs, r.Calls, r.Effects, r.Repeated, r.Changes)
	for i, promise := range Promises {
		found := fmt.Sprint(r.Count(i + 1))
		if i+1 == 4 && !r.Rest {
			found = "not at rest"
		}
		fmt.Fprintf(&b, "I%d %-72s %s\n", i+1, promise, found)
	}
	if len(r.Violations) == 0 {
		return b.String()
	}
	b.WriteString("\nviolations\n")
	for promise := 1; promise <= len(Promises); promise++ {
		n := 0
		for _, v := range r.Violations {
			if v.Promise != promise {
				continue
			}
			if n++; n <= shown {
				fmt.Fprintf(&b, "%s\n", v)
			}
		}
		if n > shown {
			fmt.Fprintf(&b, "I%d and %d more\n", promise, n-shown)
		}
	}
	return b.String()
}
