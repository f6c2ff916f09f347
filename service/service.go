package service

import (
	"context"
	"encoding/json"
	"strings"
)

// Call is one awaited tools expression of a task: tools.a.b(1).c(2) is
// {Service: "a", Steps: [get b → call b(1), call c(2)]}.
type Call struct {
	// Service is the first property after tools: "tasks", "keystore", "sleep".
	Service string `json:"service"`
	// Steps are the property accesses and calls that follow, in order. A bare
	// call of the service itself, tools.sleep(5), has one "call" step with an
	// empty Property.
	Steps []Step `json:"steps"`
	// Options are what tools.with({...}) was given, as JSON; nil when absent.
	Options json.RawMessage `json:"options,omitempty"`
}

// Step is one link of a chain, in the form the original system's SDK sends.
type Step struct {
	Type     string            `json:"type"` // "get" or "call"
	Property string            `json:"property"`
	Args     []json.RawMessage `json:"args,omitempty"` // exact JSON texts; only for "call"
}

// The two kinds of [Step].
const (
	StepGet  = "get"
	StepCall = "call"
)

// Method returns the dotted path of the steps, "chat.completions.create"; for a
// bare call of the service it returns the service's own name.
func (c Call) Method() string {
	names := make([]string, 0, len(c.Steps))
	for _, s := range c.Steps {
		if s.Property != "" {
			names = append(names, s.Property)
		}
	}
	if len(names) == 0 {
		return c.Service
	}
	return strings.Join(names, ".")
}

// Args returns the arguments of the last call step, or nil.
func (c Call) Args() []json.RawMessage {
	for i := len(c.Steps) - 1; i >= 0; i-- {
		if c.Steps[i].Type == StepCall {
			return c.Steps[i].Args
		}
	}
	return nil
}

// Reply is the answer to a Call: exactly one of Value and Err is set. A nil
// Value with a nil Err stands for JavaScript's undefined.
type Reply struct {
	Value json.RawMessage `json:"value,omitempty"` // exact JSON text
	Err   *Error          `json:"error,omitempty"`
}

// Meta says on whose behalf a Call is made.
type Meta struct {
	TaskRun        string          // id of the calling task_run
	StackRun       string          // id of the stack_run that records this call
	Task           string          // name of the calling task
	IdempotencyKey string          // the same for every try of one call
	Owner          string          // uuid of the user who started the run, or ""
	Claims         json.RawMessage // JWT claims of that user, or nil
}

// Service answers calls. Call may be made concurrently and may be repeated
// with the same Meta.IdempotencyKey after a crash. An error that is an [*Error]
// reaches the task as it is; any other becomes one with code "SERVICE_ERROR".
type Service interface {
	Call(ctx context.Context, call Call, meta Meta) (json.RawMessage, error)
}

// Sizer is implemented by services whose replies may be large: a host makes no
// more of their calls at once than it has memory for.
type Sizer interface {
	// MaxReply is how many bytes a reply may have.
	MaxReply() int
}

// Secretive is implemented by services whose calls carry secrets: their rows
// show {"redacted": true} instead.
type Secretive interface {
	// Secret reports whether the arguments of call, and whether the reply to
	// it, must not be shown in a row.
	Secret(call Call) (args, reply bool)
}
