package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/failpoint"
	"github.com/amberhost/amber/service"
)

// answer asks the service. Whatever it does becomes a reply, or, if the call is to
// be tried again, an attempt.
func (p *Processor) answer(ctx context.Context, body, taskRun uuid.UUID, task string, caller Caller, c Child) (e Ending, again *Attempt) {
	e = c.ending()
	e.Parent, e.notes = body, p.noteCall(c, task)
	svc, ok := p.cfg.Services[c.Call.Service]
	if !ok {
		e.Reply.Err = unknownService(c.Call.Service, p.cfg.Services)
		return e, nil
	}
	if secretive, ok := svc.(service.Secretive); ok {
		_, e.Secret = secretive.Secret(c.Call)
	}
	if p.calls.acquire(ctx, c.Group) != nil {
		return e, nil
	}
	reserve := min(usualReply, p.room.replies.most/int64(2*p.cfg.MaxCalls)) // slow calls alone must not take all of it
	if sizer, ok := svc.(service.Sizer); ok {
		reserve = int64(sizer.MaxReply())
	}
	if p.room.replies.acquire(ctx, reserve) != nil {
		p.calls.release()
		return e, nil
	}
	e.reserved = reserve
	began := time.Now()
	value, err := p.ask(ctx, svc, c, service.Meta{TaskRun: taskRun.String(), StackRun: c.ID.String(), Task: task,
		IdempotencyKey: c.key(task), Owner: caller.Owner, Claims: caller.Claims})
	if errors.Is(err, errCallEnded) {
		e.gone = true
		return e, nil
	}
	e.notes.answered(began)
	if err != nil {
		e.Reply.Err = service.AsError(err)
		if after, ok := c.retry(err); ok {
			p.room.replies.add(-e.reserved)
			e.reserved = 0
			return e, &Attempt{ID: c.ID, Tries: c.Tries, Began: time.Since(began), Err: e.Reply.Err, After: after, Slice: c.slice(), parent: body, notes: e.notes}
		}
		if c.Tries > 0 {
			e.givenUp, e.tried = named(c.Call), c.Tries+1
		}
		return e, nil
	}
	if value == nil {
		value = []byte("null")
	}
	if n, most := len(value), p.cfg.Engine.Limits().Value; n > most {
		e.Reply.Err = service.Errorf(service.CodeResultTooLarge, "The reply of %s is %d bytes, at most %d: keep large data elsewhere and pass its name.", display(c.Call), n, most)
		return e, nil
	}
	e.Reply = exactlyOne("reply of "+display(c.Call), service.Reply{Value: value})
	return e, nil
}

// ask makes the call, in the time that it has: a service that goes on after that
// keeps its slot until it is done, and its answer is counted as late. The caller
// has taken the slot.
func (p *Processor) ask(ctx context.Context, svc service.Service, c Child, meta service.Meta) (json.RawMessage, error) {
	ctx, done := p.asking(ctx, c.ID)
	if c.Deadline.IsZero() {
		defer done()
		defer p.calls.release()
		value, err := p.callService(ctx, svc, c, meta)
		if context.Cause(ctx) == errCallEnded {
			err = errCallEnded
		}
		return value, err
	}
	type answer struct {
		value json.RawMessage
		err   error
		late  bool
	}
	timed, cancel := context.WithDeadlineCause(ctx, c.Deadline, errTimeUp)
	answered := make(chan answer, 1)
	began := time.Now()
	p.work.Go(func() {
		defer done()
		defer cancel()
		defer p.calls.release()
		value, err := p.callService(timed, svc, c, meta)
		late := err == nil && context.Cause(timed) == errTimeUp
		answered <- answer{value, err, late}
		if late {
			p.late(ctx, c, began)
		}
	})
	var a answer
	select {
	case a = <-answered:
	case <-timed.Done(): // by what has answered, too
		select {
		case a = <-answered:
		default:
			a.err = context.Cause(timed)
		}
	}
	switch cause := context.Cause(timed); {
	case cause == errCallEnded:
		return nil, errCallEnded
	case cause == errTimeUp && (a.err != nil || a.late):
		return nil, timeUp(c.Call)
	}
	return a.value, a.err
}

// errCallEnded is the cause of a context whose call somebody else has ended.
var errCallEnded = errors.New("the call has ended")

// asking lists a call that is with its service, until done is called. The context
// ends when somebody else is found to have ended the call: if its run was retried,
// it is asked for again.
func (p *Processor) asking(ctx context.Context, id uuid.UUID) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.asked[id]; last != nil {
		last.cancel(errCallEnded)
	}
	this := &asked{cancel}
	p.asked[id] = this
	return ctx, func() {
		p.mu.Lock()
		if p.asked[id] == this {
			delete(p.asked, id)
		}
		p.mu.Unlock()
		cancel(nil)
	}
}

// asked is a call that is with its service.
type asked struct{ cancel context.CancelCauseFunc }

// stopEnded stops the calls of services that this host makes and that have been
// ended by somebody else: their runs were cancelled, or had their time.
func (p *Processor) stopEnded(ctx context.Context) error {
	p.mu.Lock()
	calls := maps.Clone(p.asked)
	p.mu.Unlock()
	if len(calls) == 0 {
		return nil
	}
	ids := slices.Collect(maps.Keys(calls))
	over, err := p.cfg.Store.over(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range over {
		calls[id].cancel(errCallEnded) // if it was asked for again meanwhile, that call is another
	}
	return nil
}

// errTimeUp is the cause of a context whose call has had its time.
var errTimeUp = errors.New("the call has had its time")

// timeUp is the error of a call that has had its time.
func timeUp(c service.Call) *service.Error {
	limit := "it may"
	if o, _ := parseOptions(c.Options, c.Service); o.timeout > 0 {
		limit = strconv.FormatFloat(float64(o.timeout)/float64(time.Millisecond), 'f', -1, 64) + " ms"
	}
	return &service.Error{Name: nameTimeout, Code: service.CodeTimeout, Message: fmt.Sprintf("%s took longer than %s.", named(c), limit)}
}

// late records an answer that came after its time.
func (p *Processor) late(ctx context.Context, c Child, began time.Time) {
	land, cancel := mustLand(ctx)
	defer cancel()
	if err := p.cfg.Store.Late(land, c.ID, time.Since(began)); err != nil {
		p.cfg.Log.Warn("late answer", "stack_run", c.ID, "err", err)
	}
}

// callService is the call itself. A panic is an error of the service.
func (p *Processor) callService(ctx context.Context, svc service.Service, c Child, meta service.Meta) (value json.RawMessage, err error) {
	defer func() {
		if r := recover(); r != nil {
			p.cfg.Log.Error("service panicked", "service", c.Call.Service, "stack_run", c.ID, "err", fmt.Sprint(r))
			err = service.Errorf(service.CodeServiceError, "The service %s failed.", c.Call.Service)
		}
	}()
	failpoint.At(failpoint.Call)
	value, err = svc.Call(ctx, c.Call, meta)
	failpoint.At(failpoint.Called)
	return value, err
}
