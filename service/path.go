package service

import (
	"encoding/json"
	"strings"
)

// Path is the steps of a dotted method path called with args: "a.b" is get a,
// call b(args). An empty path is a bare call.
func Path(method string, args []json.RawMessage) []Step {
	names := strings.Split(method, ".")
	steps := make([]Step, len(names))
	for i, n := range names {
		steps[i] = Step{Type: StepGet, Property: n}
	}
	last := &steps[len(steps)-1]
	last.Type, last.Args = StepCall, args
	return steps
}
