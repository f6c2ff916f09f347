package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/amberhost/amber/service"
)

// Name is what hosts register a [Client] as: tools.ledger.
const Name = "ledger"

// The methods of tools.ledger: what a repeat under the same key is answered.
const (
	Once = "once" // what the first was: the service is idempotent
	Each = "each" // a new number: the service is not
)

// MaxDelay bounds how long an answer may be held back. It is longer than anybody waits.
const MaxDelay = time.Hour

// Always, as what is flaky, is what no policy gets an answer of.
const Always = 1000

// CodeFlaky is the code of a refusal that passes by itself.
const CodeFlaky = "FLAKY"

// RetryAfter is how long the ledger asks to be left alone when it refuses with 429.
const RetryAfter = 4 * time.Millisecond

// Ask is what a task asks the ledger for, the one argument of its methods.
type Ask struct {
	Tree   string `json:"tree"`             // id of the tree of tasks
	Path   string `json:"path"`             // of the call, unique in its tree
	Answer string `json:"answer,omitempty"` // name of an awkward value to answer with, see [Awkward]; "" for null
	Fail   string `json:"fail,omitempty"`   // code of an error to answer with instead
	Delay  int    `json:"delay,omitempty"`  // milliseconds between the effect and its answer
	Flaky  int    `json:"flaky,omitempty"`  // so many tries under one key are refused
	Turn   bool   `json:"turn,omitempty"`   // answer, too, how many keys have asked for this path, this one included
}

// readAsk reads the arguments of a call. Its errors are *service.Error.
func readAsk(call service.Call) (a Ask, err error) {
	args := call.Args()
	if m := call.Method(); m != Once && m != Each {
		return a, service.Errorf(service.CodeUnknownMethod, "ledger has no method %s: use %s or %s", m, Once, Each)
	}
	if len(args) != 1 {
		return a, service.Errorf(service.CodeInvalidArgument, "ledger.%s takes one object, not %d arguments", call.Method(), len(args))
	}
	dec := json.NewDecoder(bytes.NewReader(args[0]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return a, service.Errorf(service.CodeInvalidArgument, "ledger.%s: %v", call.Method(), err)
	}
	switch {
	case a.Tree == "" || a.Path == "":
		return a, service.Errorf(service.CodeInvalidArgument, "ledger.%s needs a tree and a path", call.Method())
	case a.Delay < 0 || a.Delay > int(MaxDelay/time.Millisecond):
		return a, service.Errorf(service.CodeInvalidArgument, "ledger.%s: delay is 0 to %d ms", call.Method(), MaxDelay/time.Millisecond)
	case a.Flaky < 0 || a.Flaky > Always:
		return a, service.Errorf(service.CodeInvalidArgument, "ledger.%s: flaky is 0 to %d", call.Method(), Always)
	case a.Answer != "" && Awkward(a.Answer) == "":
		return a, service.Errorf(service.CodeInvalidArgument, "ledger.%s: there is no answer %q", call.Method(), a.Answer)
	}
	return a, nil
}

// refusal is what entry number n answers to a try, the first of which is 0, that
// has to be made again.
func (a Ask) refusal(n int64, try int) service.Reply {
	status := http.StatusServiceUnavailable
	if try%2 == 1 {
		status = http.StatusTooManyRequests
	}
	return service.Reply{Err: &service.Error{Code: CodeFlaky, Status: status, Message: fmt.Sprintf("entry %d of %s comes too early", n, a.Path)}}
}

// answer is what entry number n answers, which is asked for under the key that is
// number turn of its path.
func (a Ask) answer(n int64, turn int) service.Reply {
	if a.Fail != "" {
		return service.Reply{Err: service.Errorf(a.Fail, "entry %d of %s fails on demand", n, a.Path)}
	}
	value := "null"
	if a.Answer != "" {
		value = Awkward(a.Answer)
	}
	path, _ := json.Marshal(a.Path) // a string always can be
	turned := ""
	if a.Turn {
		turned = fmt.Sprintf(`"turn":%d,`, turn)
	}
	return service.Reply{Value: fmt.Appendf(nil, `{"n":%d,"path":%s,%s"value":%s}`, n, path, turned, value)}
}
