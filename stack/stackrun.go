package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// StackRun is one call or one task body as clients of the original see it: a
// row of stack_runs. Its JSON keys are the column names.
type StackRun struct {
	ID               uuid.UUID       `json:"id"`
	ParentTaskRunID  *uuid.UUID      `json:"parent_task_run_id"`
	ParentStackRunID *uuid.UUID      `json:"parent_stack_run_id"`
	ChildTaskRunID   *uuid.UUID      `json:"child_task_run_id"` // the run whose body this is; null for a call
	ServiceName      string          `json:"service_name"`
	MethodName       string          `json:"method_name"`
	Args             json.RawMessage `json:"args"`
	Status           string          `json:"status"`
	Result           json.RawMessage `json:"result"`
	Error            json.RawMessage `json:"error"`
	StuckReason      *string         `json:"stuck_reason"`
	CreatedAt        time.Time       `json:"created_at"`
	StartedAt        *time.Time      `json:"started_at"`
	EndedAt          *time.Time      `json:"ended_at"`
}

// Ended reports whether the row's status is final.
func (r StackRun) Ended() bool { return ended(r.Status) }

// StackRun returns the row with that id; ErrRunNotFound if there is none.
func (s *Store) StackRun(ctx context.Context, id uuid.UUID) (StackRun, error) {
	rows, err := s.pool.Query(ctx, `/* StackRun */
		select id, parent_task_run_id, parent_stack_run_id, child_task_run_id, service_name, method_name, args, status,
			result, error, stuck_reason, created_at, started_at, ended_at
		from public.stack_runs where id = @id`, namedArgs{"id": id})
	if err != nil {
		return StackRun{}, fmt.Errorf("load stack run: %w", err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[StackRun])
	if errors.Is(err, pgx.ErrNoRows) {
		return StackRun{}, ErrRunNotFound
	}
	if err != nil {
		return StackRun{}, fmt.Errorf("load stack run: %w", err)
	}
	return run, nil
}

// ErrNotWaiting says that a stack_run does not wait for an answer: it has ended, or is a body without an open call.
var ErrNotWaiting = errors.New("stack: not waiting for an answer")

// Process has a stack_run that any host may claim claimed now, and returns it
// when it has ended, or as it is when ctx is done. ErrRunNotFound if there is none.
func (p *Processor) Process(ctx context.Context, id uuid.UUID) (StackRun, error) {
	run, err := p.cfg.Store.StackRun(ctx, id)
	if err != nil || run.Ended() {
		return run, err
	}
	if _, err := p.take(ctx, func(host Host) ([]Claim, error) { return p.cfg.Store.ClaimRow(ctx, host, id) }); err != nil {
		return run, err
	}
	err = p.poll(ctx, id, func(land context.Context) (bool, error) {
		run, err = p.cfg.Store.StackRun(land, id)
		return run.Ended(), err
	})
	return run, err
}

// ProcessNext has the oldest row that any host may claim claimed now. ok is
// false if there was none that this host may claim now. It does not wait for it.
func (p *Processor) ProcessNext(ctx context.Context) (id uuid.UUID, ok bool, err error) {
	claims, err := p.take(ctx, func(host Host) ([]Claim, error) { return p.cfg.Store.Claim(ctx, host, ClaimAll, 1) })
	if err != nil || len(claims) == 0 {
		return uuid.Nil, false, err
	}
	return claims[0].ID, true, nil
}

// take claims rows and has them worked for, if this host works and has room:
// else others, or its own sweep, will.
func (p *Processor) take(ctx context.Context, claim func(Host) ([]Claim, error)) ([]Claim, error) {
	if !p.running() || p.bodies.free() == 0 || p.queue.free() == 0 {
		return nil, nil
	}
	host := p.currentHost()
	claims, err := claim(host)
	for _, c := range claims {
		p.observeClaim(c)
		p.slotsOf(c).take()
		p.atHand.take()
		p.submit(func(ctx context.Context) { p.resumeInTurn(ctx, host, c) })
	}
	return claims, err
}

// Inject answers a call in place of its service: the caller's body goes on with
// value. id is the call's, or that of a body, or of its run, which waits for
// exactly one call. It returns the id of the body that goes on, uuid.Nil for a
// call that no task made. ErrRunNotFound if there is no such row, [ErrNotWaiting]
// if it waits for nothing. A value that cannot be kept, a choice of several
// calls, and a nested task in place of a call are each a *service.Error with
// code INVALID_ARGUMENT.
func (p *Processor) Inject(ctx context.Context, id uuid.UUID, value json.RawMessage) (body uuid.UUID, err error) {
	if value == nil {
		value = json.RawMessage("null")
	}
	if r := exactlyOne("value", service.Reply{Value: value}); r.Err != nil {
		return uuid.Nil, service.Errorf(service.CodeInvalidArgument, "%s", r.Err.Message)
	}
	host := p.currentHost()
	if !p.running() {
		host.ID = uuid.Nil // the body is left to a host that works
	}
	e, call, err := p.cfg.Store.waitingCall(ctx, id)
	if err != nil {
		return uuid.Nil, err
	}
	e.Reply.Value = value
	if secretive, ok := p.cfg.Services[call.Service].(service.Secretive); ok {
		_, e.Secret = secretive.Secret(call)
	}
	began := time.Now()
	resume, err := p.cfg.Store.Answer(ctx, host, e)
	p.observeCommit("answer", began, err)
	if err != nil {
		return uuid.Nil, err
	}
	p.ended(e)
	if resume {
		p.submit(func(ctx context.Context) { p.hold(ctx, host, e.Parent, time.Now()) })
	}
	return e.Parent, nil
}

// waitingCall finds the call that id stands for: its own row, or the only one
// that the body with that id, or the body of the run with that id, waits for.
func (s *Store) waitingCall(ctx context.Context, id uuid.UUID) (e Ending, call service.Call, err error) {
	type row struct {
		claimed
		Status string
		Asked  bool // the row with that id, not a call of it
	}
	rows, err := s.pool.Query(ctx, `/* waitingCall */
		with asked as (select s.id from public.stack_runs s where s.id = @id or s.child_task_run_id = @id order by s.id = @id desc limit 1)
		select `+claimedColumns+`, status, s.id = asked.id as asked
		from public.stack_runs s, asked
		where s.id = asked.id or s.parent_stack_run_id = asked.id and s.call_id is not null
			and s.status not in ('completed', 'failed', 'cancelled')
		order by asked desc limit 3`, namedArgs{"id": id})
	if err != nil {
		return e, call, fmt.Errorf("find call: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	switch {
	case err != nil:
		return e, call, fmt.Errorf("find call: %w", err)
	case len(found) == 0:
		return e, call, ErrRunNotFound
	case ended(found[0].Status):
		return e, call, ErrNotWaiting
	case len(found) > 2:
		return e, call, service.Errorf(service.CodeInvalidArgument, "%s waits for more than one call: give the id of the one to answer.", id)
	}
	r := found[len(found)-1]
	req, _, err := s.asked(ctx, r.claimed)
	if err != nil {
		return e, call, err
	}
	if _, _, refused := executeArgs(req.Call); req.Service == serviceTasks && refused == nil || r.ChildTaskRunID != nil {
		if r.Asked {
			return e, call, ErrNotWaiting // a body that waits for nothing
		}
		return e, call, service.Errorf(service.CodeInvalidArgument,
			"%s waits for a nested task, which answers itself: give the id of a call, or of %s if that waits.", id, r.ID)
	}
	e = Ending{ID: r.ID, Parent: orNil(r.ParentStackRunID)}
	if r.CallID != nil {
		e.CallID = uint32(*r.CallID)
	}
	e.notes = &notes{root: orNil(req.Root), service: req.Service, method: req.Method(), tries: r.Tries, at: time.Now()}
	return e, req.Call, nil
}
