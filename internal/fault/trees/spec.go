package trees

import (
	_ "embed"
	"encoding/json"
)

// TaskName is the task that plays trees, and Code what it is.
const TaskName = "fault-tree"

//go:embed play.js
var Code string

// Tree is a tree of tasks to play. Its JSON form is the input of its root run.
type Tree struct {
	ID   string `json:"tree"`
	Path string `json:"path"` // of the root's body: "0"
	Body []Step `json:"body"`
}

// Input is what the root run is started with.
func (t Tree) Input() json.RawMessage {
	raw, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and numbers
	}
	return raw
}

// Step is what a body awaits next. The path of step i of a body, or of branch i
// of a step, is that of the body or step and ".i".
type Step struct {
	Op    string `json:"op"`
	Catch bool   `json:"catch,omitempty"` // an error is caught, and observed as {"caught": "CODE: message"}
	Of    []Step `json:"of,omitempty"`    // of all, settled, race, any: the branches; of seq: one after the other; of forget: the one call

	// OpLedger
	Method string `json:"method,omitempty"` // ledger.Once or ledger.Each
	Answer string `json:"answer,omitempty"` // the awkward value to be answered
	Fail   string `json:"fail,omitempty"`   // the code to fail with
	Delay  int    `json:"delay,omitempty"`  // of the answer, in milliseconds
	Refuse bool   `json:"refuse,omitempty"` // ask with an argument that no row can hold: the call is refused, and never made
	Flaky  int    `json:"flaky,omitempty"`  // so many tries are refused

	// OpLedger as a step of a body that is to be tried again
	Turn  bool `json:"turn,omitempty"`  // ask which execution this is
	Fails int  `json:"fails,omitempty"` // so many of them fail, which end here
	Final bool `json:"final,omitempty"` // with an error after which there is no other

	// OpChild
	Body []Step `json:"body,omitempty"`
	Give int    `json:"give,omitempty"` // hand down what step Give-1 of this body gave; 0 for null

	With *With `json:"with,omitempty"` // OpLedger, OpChild, OpSleep: options of the call

	MS   int    `json:"ms,omitempty"`   // OpSleep, OpTimer: milliseconds
	Code string `json:"code,omitempty"` // OpThrow
}

// With are the options of a call: what tools.with is given.
type With struct {
	Retries  *int `json:"retries,omitempty"`
	Backoff  int  `json:"backoff,omitempty"` // milliseconds, as are the others
	Timeout  int  `json:"timeout,omitempty"`
	Delay    int  `json:"delay,omitempty"`
	In       int  `json:"in,omitempty"` // from now: scheduledFor
	Priority int  `json:"priority,omitempty"`
	// Own has the task give an idempotency key: [Tree.Key]. It is the same in each
	// execution, so it is not for a step with Turn.
	Own bool `json:"own,omitempty"`
}

// timed reports whether the step's call has only so much time.
func (s *Step) timed() bool { return s.timeout() > 0 }

func (s *Step) timeout() int {
	if s.With == nil {
		return 0
	}
	return s.With.Timeout
}

// retries is how often the step's call is made again at most. It says so itself,
// unless it is never refused.
func (s *Step) retries() int {
	if s.With == nil || s.With.Retries == nil {
		return 0
	}
	return *s.With.Retries
}

// The values of [Step.Op].
const (
	OpLedger  = "ledger"
	OpChild   = "child"
	OpSleep   = "sleep"   // tools.sleep
	OpTimer   = "timer"   // setTimeout
	OpAll     = "all"     // Promise.all
	OpSettled = "settled" // Promise.allSettled
	OpRace    = "race"    // Promise.race
	OpAny     = "any"     // Promise.any
	OpSeq     = "seq"     // a branch of several steps
	OpHang    = "hang"    // Of are a sleep that never ends, and, finally, a call to tidy up
	OpForget  = "forget"  // a call that nobody awaits; in a body only
	OpThrow   = "throw"   // the end of a body
)

// codes that the task gives or sees besides those that a tree asks for
const (
	codeAllFailed       = "ALL_FAILED" // of OpAny
	codeInvalidResult   = "INVALID_RESULT"
	codeInvalidArgument = "INVALID_ARGUMENT"
	codeAgain           = "AGAIN" // of a body that is to be tried again
	codeFinal           = "FINAL" // of one that is not
	codeTimeout         = "TIMEOUT"
	codeCancelled       = "CANCELLED"
)
