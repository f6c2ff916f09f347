package wire

import (
	"encoding/json"
	"math"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/amberhost/amber/stack"
)

// StartOptions reads how a run is to be started besides its task and input: the
// header Idempotency-Key, and of body, if it is not nil, delay and timeout in
// milliseconds, scheduledFor (or scheduled_for) and priority.
func StartOptions(r *http.Request, body Object, p *stack.StartParams) error {
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return err
	}
	p.IdempotencyKey, p.Trace = key, traceparent(r.Header)
	if p.Delay, err = milliseconds(body, "delay"); err != nil {
		return err
	}
	if p.Timeout, err = milliseconds(body, "timeout"); err != nil {
		return err
	}
	if name := body.First("scheduledFor", "scheduled_for"); name != "" {
		text, _ := body.String(name)
		if p.At, err = time.Parse(time.RFC3339, text); err != nil {
			return option(name, `a time with a zone, such as "2031-01-31T08:00:00Z" (ISO 8601)`)
		}
	}
	if body.Has("priority") {
		var n float64
		if json.Unmarshal(body["priority"], &n) != nil || n != math.Trunc(n) || math.Abs(n) > 1e6 {
			return option("priority", "a whole number")
		}
		p.Priority = int(n)
	}
	return nil
}

func milliseconds(body Object, name string) (time.Duration, error) {
	if !body.Has(name) {
		return 0, nil
	}
	const most = float64(math.MaxInt64 / time.Millisecond)
	var ms float64
	if json.Unmarshal(body[name], &ms) != nil || ms < 0 || ms >= most {
		return 0, option(name, "a number of milliseconds, 0 or more")
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}

func option(name, want string) error {
	return &Problem{Status: http.StatusBadRequest, Code: CodeInvalidRequest, Message: "'" + name + "' must be " + want + "."}
}

// idempotencyKey reads the header: a string in quotes, as its draft has it, or the
// bare key, as most clients send it.
func idempotencyKey(header http.Header) (string, error) {
	values := header.Values("Idempotency-Key")
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", keyProblem("there are several")
	}
	key := strings.TrimSpace(values[0])
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(key[1 : len(key)-1])
	}
	if key == "" {
		return "", keyProblem("it is empty")
	}
	return key, nil
}

// traceparent reads the header of that name (W3C Trace Context). One that is malformed
// is as none: it is not for who started the trace to fail the request.
func traceparent(header http.Header) string {
	values := header.Values("Traceparent")
	if len(values) != 1 || !traceparentText.MatchString(values[0]) {
		return ""
	}
	return values[0]
}

var traceparentText = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

func keyProblem(why string) error {
	return &Problem{Status: http.StatusBadRequest, Code: CodeInvalidRequest, Message: "The header Idempotency-Key is not a key: " + why + "."}
}
