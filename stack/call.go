package stack

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// serviceTasks is the service that the stack itself answers: nested tasks.
const serviceTasks = "tasks"

// child decides what a call is that a body made, which is nested so deep: a nested
// task, a timer or a call of a service; a malformed one is refused, which rejects
// it in the task.
func (p *Processor) child(c vm.Call, depth int) Child {
	ch := Child{ID: newID(), CallID: c.ID, Call: c.Call}
	if secretive, ok := p.cfg.Services[c.Service].(service.Secretive); ok {
		ch.SecretArgs, _ = secretive.Secret(c.Call)
	}
	o, err := parseOptions(c.Options, c.Service)
	if err != nil {
		ch.Refused = service.Errorf(service.CodeInvalidArgument, "tools.with: %v.", err)
		return ch
	}
	ch.Key, ch.Policy = o.key, o.policy(p.policy(c.Call))
	if o.timeout > 0 {
		ch.Deadline = time.Now().Add(o.timeout)
	}
	for i, arg := range c.Args() {
		if err := checkJSONB(arg); err != nil {
			ch.Refused = service.Errorf(service.CodeInvalidArgument, "Argument %d of %s cannot be stored: %v.", i+1, display(c.Call), err)
			return ch
		}
	}
	switch c.Service {
	case serviceTasks:
		if ch.Task, ch.Input, ch.Refused = executeArgs(c.Call); ch.Refused == nil {
			ch.TaskRun = newID()
		}
		if ch.Refused == nil && depth >= p.cfg.MaxDepth {
			ch.TaskRun = uuid.Nil
			ch.Refused = service.Errorf(service.CodeDepthLimit,
				"The task %s is not started: it would be nested in %d others, at most %d. Does a task call itself without end?", clip(ch.Task), depth+1, p.cfg.MaxDepth)
		}
		ch.After, ch.At = o.delay, o.at
		if o.priority != nil {
			ch.Priority, ch.prioritized = *o.priority, true
		}
	case serviceSleep, serviceTimer:
		if len(c.Steps) != 1 || c.Steps[0].Property != "" {
			ch.Refused = service.Errorf(service.CodeUnknownMethod, "%s has no methods: call %s(milliseconds).", c.Service, c.Service)
			return ch
		}
		ch.After, ch.Refused = timerDuration(c.Call)
		ch.Timer = ch.Refused == nil
	}
	return ch
}

// taskPolicy is that of nested tasks: they are not tried again unless their caller
// says so.
var taskPolicy = service.Policy{First: service.DefaultPolicy.First, Factor: service.DefaultPolicy.Factor, Most: service.DefaultPolicy.Most}

// policy is how a call is tried again, unless the task says otherwise.
func (p *Processor) policy(c service.Call) service.Policy {
	svc, ok := p.cfg.Services[c.Service]
	if own, is := svc.(service.Retrier); is {
		return own.Policy(c)
	}
	if !ok {
		return taskPolicy
	}
	return service.DefaultPolicy
}

// inherit gives a call what its caller's body has: a nested task its time too.
func (c *Child) inherit(b *Body) {
	c.Group = b.Root
	if !c.prioritized {
		c.Priority = b.Priority
	}
	if c.TaskRun != uuid.Nil && !b.Deadline.IsZero() && (c.Deadline.IsZero() || b.Deadline.Before(c.Deadline)) {
		c.Deadline = b.Deadline
	}
}

// sleeps reports whether the row sleeps before anybody works for it.
func (c Child) sleeps() bool { return c.Timer || c.After > 0 || !c.At.IsZero() }

// wait is how long it does.
func (c Child) wait() time.Duration {
	if !c.At.IsZero() {
		return time.Until(c.At)
	}
	return c.After
}

// key is what the service sees, whatever becomes of a try; a retry of the run gives
// the call another, which is in its row. One that the task gave
// is the task's own: another task, whose author may be a stranger, that gives the
// same one to the same service is not answered with what this one was.
func (c Child) key(task string) string {
	if c.Sent != "" {
		return c.Sent
	}
	if c.Key == "" {
		return c.ID.String()
	}
	return task + "/" + c.Key
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// secondsUntil is nil for the zero time.
func secondsUntil(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	s := time.Until(t).Seconds()
	return &s
}

// executeArgs reads tools.tasks.execute(name, input).
func executeArgs(call service.Call) (name string, input json.RawMessage, refused *service.Error) {
	if method := call.Method(); method != "execute" || len(call.Steps) != 1 || call.Steps[0].Type != service.StepCall {
		return "", nil, service.Errorf(service.CodeUnknownMethod,
			"tools.tasks has no method %q: use tools.tasks.execute(name, input).", method)
	}
	args := call.Args()
	if len(args) == 0 || json.Unmarshal(args[0], &name) != nil || name == "" {
		return "", nil, service.Errorf(service.CodeInvalidArgument,
			"tools.tasks.execute takes the task's name, a non-empty string, as its first argument.")
	}
	input = json.RawMessage("null")
	if len(args) > 1 {
		input = args[1]
	}
	return name, input, nil
}

// executeCall is tools.tasks.execute(name, input).
func executeCall(name string, input json.RawMessage) (service.Call, error) {
	first, err := encode(name)
	return service.Call{Service: serviceTasks, Steps: []service.Step{
		{Type: service.StepCall, Property: "execute", Args: []json.RawMessage{first, input}},
	}}, err
}

// display is a call as its task wrote it.
func display(c service.Call) string {
	switch {
	case c.Service == serviceTimer:
		return "setTimeout"
	case c.Method() == c.Service:
		return "tools." + c.Service
	}
	return "tools." + c.Service + "." + c.Method()
}

// named is display with the name of the task, if the call is one of a task.
func named(c service.Call) string {
	if c.Service == serviceTasks {
		if name, _, refused := executeArgs(c); refused == nil {
			return executeOf(name)
		}
	}
	return display(c)
}

func executeOf(task string) string { return "tools.tasks.execute('" + clip(task) + "')" }

// unknownService is the answer to a call of a service that this host does not have.
func unknownService(name string, known map[string]service.Service) *service.Error {
	names := append(slices.Collect(maps.Keys(known)), serviceSleep, serviceTasks)
	slices.Sort(names)
	return service.Errorf(service.CodeUnknownService, "There is no service %q: tools has %s.", name, strings.Join(names, ", "))
}

func (c Child) ending() Ending {
	return Ending{ID: c.ID, CallID: c.CallID, Slice: c.slice()}
}

// slice fences what becomes of a call that is no body.
func (c Child) slice() Slice {
	attempt := c.attempt
	return Slice{attempt: &attempt}
}

func (c Child) body(parent *Body) *Body {
	return &Body{ID: c.ID, TaskRun: c.TaskRun, Parent: parent.ID, CallID: c.CallID, Task: c.Task, Input: c.Input,
		Caller: parent.Caller, Held: true, Depth: parent.Depth + 1, Root: parent.Root,
		Priority: c.Priority, Deadline: c.Deadline, Policy: c.Policy, Tries: c.Tries, claimedAt: time.Now(), codeRow: c.codeRow}
}

// exactlyOne turns a reply that cannot be kept into an error, so that nothing
// is half-written: see checkJSONB.
func exactlyOne(what string, r service.Reply) service.Reply {
	if r.Err != nil || r.Value == nil {
		return r
	}
	if tooDeep(r.Value) {
		return service.Reply{Err: service.Errorf(service.CodeInvalidResult, "The %s cannot be stored: it nests deeper than %d levels.", what, maxDepth)}
	}
	if !json.Valid(r.Value) {
		return service.Reply{Err: service.Errorf(service.CodeInvalidResult, "The %s is not valid JSON.", what)}
	}
	if err := checkJSONB(r.Value); err != nil {
		return service.Reply{Err: service.Errorf(service.CodeInvalidResult, "The %s cannot be stored: %v.", what, err)}
	}
	return r
}
