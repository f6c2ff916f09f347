package trees

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/amberhost/amber/internal/fault/ledger"
)

// What the host says of a run while that goes on, and how a run ended that was
// interrupted.

var (
	givenUp = regexp.MustCompile(`^tools\.([a-z.]+)(?:\('` + TaskName + `'\))? was tried (once|([0-9]+) times)( in [0-9.]+ m?s)?, in vain: `)
	endings = []string{"The run did not tidy up in the time that it had for that. ", "The run was cancelled once more while it tidied up. ",
		"The task failed while it tidied up: ", "The task did not tidy up: "}
)

// notice reports whether a line is one that the host may write at any time.
func (r *replay) notice(line string) bool {
	if said := givenUp.FindStringSubmatch(line); said != nil {
		tries, _ := strconv.Atoi(said[3])
		return anyStep(r.body, func(s *Step) bool { return s.givesUp(said[1], max(tries, 1)) })
	}
	if !r.limited {
		return false
	}
	for _, f := range interruptions {
		if strings.HasPrefix(line, f.message+" ") {
			return true
		}
	}
	return slices.ContainsFunc(endings, func(e string) bool { return strings.HasPrefix(line, e) })
}

// givesUp reports whether the step's call may be given up after so many tries.
func (s *Step) givesUp(call string, tries int) bool {
	named := s.Op == OpLedger && call == ledger.Name+"."+s.Method || s.Op == OpChild && call == "tasks.execute"
	return named && tries <= s.retries()+1 && (tries > 1 || s.timed())
}

// anyStep reports whether a body has such a step.
func anyStep(steps []Step, is func(*Step) bool) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return is(&s) || anyStep(s.Of, is) })
}
