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

// A body is interrupted when its run is cancelled or has had its time. Its open
// calls are rejected with an error that says so, those of the bodies below it first,
// and it has a grace time to tidy up, in which it may make other calls. Whatever it
// returns, it ends as what it was interrupted for. One that takes longer, or is
// cancelled once more, is ended as it is.
//
// A call that has had its time ends with an error in place of whoever makes it.

// The reasons to interrupt a body.
const (
	interruptCancel  = "cancel"
	interruptTimeout = "timeout"
)

// The names of errors that tasks tell apart; the engine has classes for them.
const (
	nameCancelled    = "CancelledError"
	nameTimeout      = "TimeoutError"
	nameNonRetryable = "NonRetryableError"
)

// interruption is the error of what is interrupted.
func interruption(why string) *service.Error {
	if why == interruptTimeout {
		return &service.Error{Name: nameTimeout, Code: service.CodeTimeout, Message: "The run took longer than it may."}
	}
	return &service.Error{Name: nameCancelled, Code: service.CodeCancelled, Message: "The run was cancelled."}
}

// reasonOf is interruption as a column has it.
func reasonOf(why string) json.RawMessage {
	raw, err := json.Marshal(interruption(why))
	if err != nil {
		panic(err) // texts
	}
	return raw
}

// Interrupted is what came of ending a row before its time.
type Interrupted struct {
	Ended  bool      // the row has: now, or before
	Parent uuid.UUID // the body that made the call, if that is now held by the host, which must resume it

	ending *Ending // what ended now
}

// Cancel asks the run's body to end, and ends it if it was asked before or has not
// begun. ErrRunNotFound if there is no such run or it has no body. A run that has
// ended stays as it is.
func (s *Store) Cancel(ctx context.Context, host Host, run uuid.UUID, grace time.Duration) (in Interrupted, err error) {
	var body uuid.UUID
	err = s.pool.QueryRow(ctx, `/* Cancel: body */ select id from public.stack_runs where child_task_run_id = @run`, namedArgs{"run": run}).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.cancelUnbegun(ctx, run)
	}
	if err != nil {
		return in, fmt.Errorf("cancel run: %w", err)
	}
	return s.interrupt(ctx, "cancel run", host, body, interruptCancel, grace, func(interruptible) bool { return true })
}

// cancelUnbegun cancels a run that somebody has queued and that has no body yet.
func (s *Store) cancelUnbegun(ctx context.Context, run uuid.UUID) (in Interrupted, err error) {
	tag, err := s.pool.Exec(ctx, `/* Cancel: run */
		update public.task_runs t set status = 'cancelled', error = @reason, cancel_requested_at = now(), ended_at = now(), updated_at = now()
		where id = @run and not exists (select from public.stack_runs s where s.child_task_run_id = t.id)
			and status not in ('completed', 'failed', 'cancelled')`,
		namedArgs{"run": run, "reason": reasonOf(interruptCancel)})
	if err != nil {
		return in, fmt.Errorf("cancel run: %w", err)
	}
	in.Ended = tag.RowsAffected() == 1
	if in.Ended {
		return in, nil
	}
	r, err := s.Run(ctx, run)
	in.Ended = r.Ended()
	return in, err
}

// Expire ends a call that has had its time, asks a body that has to end, and ends
// one that has had its time to tidy up too.
func (s *Store) Expire(ctx context.Context, host Host, id uuid.UUID, grace time.Duration) (Interrupted, error) {
	return s.interrupt(ctx, "expire stack run", host, id, interruptTimeout, grace, func(r interruptible) bool { return r.Due })
}

// interruptible is what decides how a row is interrupted.
type interruptible struct {
	Status    string
	Parent    *uuid.UUID
	CallID    *int64
	Run       *uuid.UUID // of a body
	Sequence  int64
	Begun     bool
	Interrupt *string
	Due       bool
	Tries     int
	Service   string
	Method    string
	Task      string // whose body it is, or that made the call
}

// interrupt ends a row, or asks it to end, if wanted.
func (s *Store) interrupt(ctx context.Context, act string, host Host, id uuid.UUID, why string, grace time.Duration, wanted func(interruptible) bool) (in Interrupted, err error) {
	err = s.tx(ctx, act, func(tx pgx.Tx) error {
		in = Interrupted{}
		r, err := lockBoth(ctx, tx, id)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && ended(r.Status) {
			in.Ended = true
			return nil
		}
		if err != nil || !wanted(r) {
			return err
		}
		if r.Interrupt == nil && r.Run != nil && (r.Begun || r.Status == StatusProcessing) {
			_, err := tx.Exec(ctx, `/* interrupt */
				with run as (update public.task_runs set cancel_requested_at = coalesce(cancel_requested_at, case when @why = 'cancel' then now() end), updated_at = now() where id = @run)
				select amber.interrupt(@id, @why, @reason, make_interval(secs => @grace))`,
				namedArgs{"id": id, "run": *r.Run, "why": why, "reason": reasonOf(why), "grace": grace.Seconds()})
			return err
		}
		return s.endForced(ctx, tx, host, id, r, why, &in)
	})
	return in, err
}

// endForced ends a row in place of whoever holds it.
func (s *Store) endForced(ctx context.Context, tx pgx.Tx, host Host, id uuid.UUID, r interruptible, why string, in *Interrupted) error {
	e := Ending{ID: id, Parent: orNil(r.Parent), Forced: true, CancelOpen: true, Slice: Slice{Sequence: r.Sequence, Held: true}}
	if r.CallID != nil {
		e.CallID = uint32(*r.CallID)
	}
	asked := why
	if r.Interrupt != nil {
		why, e.Interrupt = *r.Interrupt, *r.Interrupt
	}
	e.Reply.Err = s.timeOver(ctx, tx, id, e.Parent, why)
	if r.Run != nil {
		e.TaskRun, e.Logs = *r.Run, forcedEnd(r, asked)
		if asked == interruptCancel {
			if _, err := tx.Exec(ctx, `/* interrupt: asked */
				update public.task_runs set cancel_requested_at = coalesce(cancel_requested_at, now()), updated_at = now() where id = @run`,
				namedArgs{"run": *r.Run}); err != nil {
				return err
			}
		}
	} else if why == interruptTimeout {
		call, err := s.askedOf(ctx, tx, id)
		if err != nil {
			return err
		}
		e.Reply.Err = timeUp(call)
		if tried := r.tried(); tried > 0 && r.Tries > 0 {
			e.givenUp, e.tried = named(call), tried
		}
	}
	in.Ended = true
	e.notes = &notes{service: r.Service, method: r.Method, task: r.Task, tries: r.Tries, at: time.Now()}
	in.ending = &e
	resume, err := s.complete(ctx, tx, host, e)
	if err == nil && resume {
		in.Parent = e.Parent
	}
	return err
}

// timeOver is the error of a body that was interrupted. It names the call and its
// limit, if it is that limit which was over and not the time of its caller; its own
// awaits have been told interruption(why).
func (s *Store) timeOver(ctx context.Context, q querier, id, caller uuid.UUID, why string) *service.Error {
	if why != interruptTimeout || caller == uuid.Nil {
		return interruption(why)
	}
	call, err := s.askedOf(ctx, q, id)
	if err != nil {
		return interruption(why)
	}
	o, err := parseOptions(call.Options, call.Service)
	if err != nil || o.timeout == 0 {
		return interruption(why)
	}
	var own bool // its caller's deadline may be its own: whichever is nearer to what it was given
	err = q.QueryRow(ctx, `/* timeOver */
		select coalesce(abs(extract(epoch from t.deadline_at - t.created_at) - @timeout::float8) <= abs(extract(epoch from t.deadline_at - c.deadline_at)), true)
		from public.stack_runs s join public.task_runs t on t.id = s.child_task_run_id left join public.task_runs c on c.id = s.parent_task_run_id
		where s.id = @id`, namedArgs{"id": id, "timeout": o.timeout.Seconds()}).Scan(&own)
	if err != nil || !own {
		return interruption(why)
	}
	return timeUp(call)
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// askedOf is the call that a row is, as far as this host can tell.
func (s *Store) askedOf(ctx context.Context, q querier, id uuid.UUID) (service.Call, error) {
	var name, method string
	var keyID *string
	var sealed []byte
	err := q.QueryRow(ctx, `/* interrupt: request */
		select service_name, coalesce(method_name, ''), key_id, data
		from public.stack_runs s left join amber.replies r on r.stack_run_id = s.id and r.kind = 'request' where s.id = @id`,
		namedArgs{"id": id}).Scan(&name, &method, &keyID, &sealed)
	if err != nil {
		return service.Call{}, fmt.Errorf("load request: %w", err)
	}
	var req request
	if keyID == nil || s.openBytes(id, kindRequest, *keyID, sealed, &req) != nil { // its message lacks the limit then
		req.Call = service.Call{Service: name, Steps: service.Path(method, nil)}
	}
	return req.Call, nil
}

// lockBoth locks the row of a call's caller and then the call's.
func lockBoth(ctx context.Context, tx pgx.Tx, id uuid.UUID) (r interruptible, err error) {
	_, err = tx.Exec(ctx, `/* interrupt: caller */
		select from public.stack_runs where id = (select parent_stack_run_id from public.stack_runs where id = @id) for update`,
		namedArgs{"id": id})
	if err != nil {
		return r, err
	}
	rows, err := tx.Query(ctx, `/* interrupt: row */
		select status, parent_stack_run_id as parent, call_id, child_task_run_id as run, sequence, sequence > first_sequence as begun,
			interrupt, coalesce(deadline_at <= clock_timestamp(), false) as due, tries, service_name as service, coalesce(method_name, '') as method,
			coalesce((select t.task_name from public.task_runs t where t.id = coalesce(child_task_run_id, parent_task_run_id)), '') as task
		from public.stack_runs where id = @id for update`, namedArgs{"id": id})
	if err != nil {
		return r, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[interruptible])
}

// interruptOf is why a body is to end that host is working for, or that waits; ""
// if it is not, or if somebody else went on with it. knows says that it was told.
func (s *Store) interruptOf(ctx context.Context, host Host, id uuid.UUID, sequence int64) (why string, knows bool, err error) {
	err = s.pool.QueryRow(ctx, `/* interruptOf */
		select coalesce(interrupt, ''), interrupted_at is not null from public.stack_runs where id = @id and sequence = @sequence
			and (status = 'processing' and claimed_by = @host or status = 'suspended_waiting_child')`,
		namedArgs{"id": id, "host": host.ID, "sequence": sequence}).Scan(&why, &knows)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look for an interruption: %w", err)
	}
	return why, knows, nil
}

// Deadline is when a row's time is over.
type Deadline struct {
	ID uuid.UUID
	In time.Duration // negative when it is
}

// holderFirst is how long whoever makes a call has to notice that its time is over
// before others do.
const holderFirst = time.Second

// Deadlines returns up to limit rows whose time is over within the given time, the
// first first.
func (s *Store) Deadlines(ctx context.Context, within time.Duration, limit int) ([]Deadline, error) {
	rows, err := s.pool.Query(ctx, `/* Deadlines */
		select id, extract(epoch from deadline_at - statement_timestamp())::float8
			+ case when status = 'processing' and child_task_run_id is null then @holder else 0 end
		from public.stack_runs
		where deadline_at <= now() + make_interval(secs => @within) and deadline_at is not null and status not in ('completed', 'failed', 'cancelled')
		order by deadline_at limit @limit`,
		namedArgs{"within": within.Seconds(), "limit": limit, "holder": holderFirst.Seconds()})
	if err != nil {
		return nil, fmt.Errorf("list deadlines: %w", err)
	}
	deadlines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Deadline, err error) {
		var in float64
		err = row.Scan(&d.ID, &in)
		d.In = time.Duration(in * float64(time.Second))
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("list deadlines: %w", err)
	}
	return deadlines, nil
}

// Cancel asks a run to end: its open calls, and those of what it called, are
// rejected with a CancelledError, and it has a time to tidy up. A run that was asked
// before ends at once. It returns the run as it is then. ErrRunNotFound if there is none.
func (p *Processor) Cancel(ctx context.Context, run uuid.UUID) (Run, error) {
	r, err := p.cfg.Store.Run(ctx, run)
	if err != nil || r.Ended() {
		return r, err
	}
	host := p.currentHost()
	in, err := p.cfg.Store.Cancel(ctx, p.as(host), r.ID, p.cfg.Grace)
	if err != nil {
		return r, err
	}
	p.after(host, in, r.ID)
	return p.cfg.Store.Run(ctx, r.ID)
}

// after goes on after a row was interrupted.
func (p *Processor) after(host Host, in Interrupted, run uuid.UUID) {
	if in.Ended {
		p.tell(run)
	}
	if in.ending != nil {
		p.observeEnded(in.ending)
	}
	if in.Parent != uuid.Nil {
		p.submit(func(ctx context.Context) { p.hold(ctx, host, in.Parent, time.Now()) })
	}
	p.nudge()
}

// expect has something be done about a row when its time is over, if that is before
// the sweep looks again.
func (p *Processor) expect(d Deadline, at time.Time) {
	if at.IsZero() || d.In > 2*p.cfg.Sweep || p.drains.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.deadlines[d.ID]; known {
		return
	}
	p.deadlines[d.ID] = time.AfterFunc(max(d.In, 0), func() {
		p.submit(func(ctx context.Context) { p.expire(ctx, d.ID) })
	})
}

// expire does something about a row whose time is over.
func (p *Processor) expire(ctx context.Context, id uuid.UUID) {
	defer func() {
		p.mu.Lock()
		delete(p.deadlines, id)
		p.mu.Unlock()
	}()
	land, cancel := mustLand(ctx)
	defer cancel()
	host := p.currentHost()
	in, err := p.cfg.Store.Expire(land, p.as(host), id, p.cfg.Grace)
	if err != nil {
		if !errors.Is(err, ErrClaimLost) {
			p.cfg.Log.Warn("a deadline passed", "stack_run", id, "err", err)
		}
		return
	}
	p.after(host, in, id)
}

// interrupted reports whether e was not committed because its body was interrupted
// meanwhile, and makes it end as that.
func (p *Processor) interrupted(ctx context.Context, host Host, e *Ending) bool {
	if e.TaskRun == uuid.Nil || e.Interrupt != "" {
		return false
	}
	land, cancel := mustLand(ctx)
	defer cancel()
	why, knows, err := p.cfg.Store.interruptOf(land, host, e.ID, e.Sequence)
	if err != nil || why == "" {
		return false
	}
	if knows {
		e.Logs = append(e.Logs, tidiedBadly(why, e.Reply.Err)...)
	} else {
		e.Logs = append(e.Logs, interruptedLine(why, "It ended before it came to know of that; what it returned or threw does not count."))
	}
	e.Interrupt, e.Reply, e.givenUp = why, service.Reply{Err: p.cfg.Store.timeOver(land, p.cfg.Store.pool, e.ID, e.Parent, why)}, ""
	return true
}

// wakeDue has what has slept long enough be claimed.
func (p *Processor) wakeDue(ctx context.Context) {
	land, cancel := mustLand(ctx)
	defer cancel()
	for {
		n, err := p.cfg.Store.WakeDue(land, 100*batchSize)
		if err != nil {
			p.cfg.Log.Warn("wake what is due", "err", err)
		}
		if n > 0 {
			p.nudge()
		}
		if n < 100*batchSize {
			return
		}
	}
}
