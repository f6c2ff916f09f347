package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// A call that failed and is tried again sleeps in between: nobody holds it, and it
// costs nothing but its row. When it is due it is pending, for any host. A task that
// was called is tried again as a whole: it begins anew, with the code that is
// published then.

// Attempt is a try of a call that failed and is followed by another.
type Attempt struct {
	ID    uuid.UUID
	Tries int           // that failed before this one
	Began time.Duration // how long ago this one did
	Err   *service.Error
	After time.Duration // until the next one

	// Of a task's body.

	TaskRun uuid.UUID // uuid.Nil for a call that is not one
	Slice

	parent uuid.UUID // the body that made the call
	notes  *notes    // for the observer
}

// Again records a try and has the call sleep until the next one is due.
// ErrClaimLost if host does not hold it any more.
func (s *Store) Again(ctx context.Context, host Host, a Attempt) error {
	failure, err := json.Marshal(storable(a.Err))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnstorable, err)
	}
	return s.tx(ctx, "try again", func(tx pgx.Tx) error {
		b := batch{host: host.ID}
		b.fenced(`/* Again: row */
			update public.stack_runs set status = 'sleeping', claimed_by = null, due_at = clock_timestamp() + make_interval(secs => @after),
				tries = @tries + 1, stuck_reason = null, updated_at = now(), waiting_on_stack_run_id = null,
				sequence = case when @body then sequence + 1 else sequence end,
				first_sequence = case when @body then sequence + 1 else first_sequence end,
				engine = case when @body then null else engine end
			where id = @id and tries = @tries and sequence = @sequence and attempt = coalesce(@attempt, attempt) and interrupt is null and (
				(status = 'processing' and claimed_by = @host)
				or (status = 'suspended_waiting_child' and sequence = @fence))`,
			namedArgs{"id": a.ID, "tries": a.Tries, "after": a.After.Seconds(), "body": a.TaskRun != uuid.Nil,
				"sequence": a.Sequence, "host": host.ID, "fence": a.fence(), "attempt": a.attempt})
		b.Queue(`/* Again: attempt */
			insert into amber.attempts (stack_run_id, attempt, started_at, error, next_at)
			select id, tries, clock_timestamp() - make_interval(secs => @began), @error, due_at from public.stack_runs where id = @id`,
			namedArgs{"id": a.ID, "began": a.Began.Seconds(), "error": json.RawMessage(failure)})
		if a.TaskRun != uuid.Nil {
			if err := s.settle(&b, host, a.ID, a.TaskRun, a.Slice, false); err != nil {
				return err
			}
			queueCancelOpen(&b, a.ID)
			b.flush()
			queueForgetBody(&b, a.ID)
			b.Queue(`/* Again: run */
				update public.task_runs set status = 'queued', attempt = attempt + 1, waiting_on_stack_run_id = null, stuck_reason = null, updated_at = now()
				where id = @run and status not in ('completed', 'failed', 'cancelled')`, namedArgs{"run": a.TaskRun})
		}
		return b.send(ctx, tx)
	})
}

// queueForgetBody removes what a body has of an execution that is over, all of whose
// calls have ended: the next one sees none of it.
func queueForgetBody(b *batch, id uuid.UUID) {
	b.Queue(`/* forget body */ select amber.forget_bodies(array[@id::uuid])`, namedArgs{"id": id})
	b.Queue(`/* forget replies */
		update public.stack_runs set delivered = true, updated_at = now()
		where parent_stack_run_id = @id and not delivered and call_id is not null and status in ('completed', 'failed', 'cancelled')`,
		namedArgs{"id": id})
}

// Late records an answer that came when nobody waited for it any more.
func (s *Store) Late(ctx context.Context, id uuid.UUID, began time.Duration) error {
	_, err := s.pool.Exec(ctx, `/* Late */
		insert into amber.attempts (stack_run_id, attempt, started_at, late)
		select id, tries + 1, clock_timestamp() - make_interval(secs => @began), true from public.stack_runs where id = @id for key share`,
		namedArgs{"id": id, "began": began.Seconds()})
	if err != nil {
		return fmt.Errorf("record late answer: %w", err)
	}
	return nil
}

// WakeDue makes up to limit calls and bodies pending that have slept long enough,
// and returns how many. Those of one body are apart in the order of claims, as calls
// are that were left to any host. Timers are answered instead: see [Store.Timers].
func (s *Store) WakeDue(ctx context.Context, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, `/* WakeDue */
		with due as (
			select id, parent_stack_run_id, call_id, due_at from public.stack_runs
			where status = 'sleeping' and due_at <= now() and service_name not in ('sleep', 'timer')
			order by due_at limit @limit for update skip locked
		), turns as (
			select id, row_number() over (partition by coalesce(parent_stack_run_id, id) order by due_at, call_id) as turn from due
		)
		update public.stack_runs s set status = 'pending', due_at = null, turn_at = now() + make_interval(secs => turn * @every::float8), updated_at = now()
		from turns where s.id = turns.id`,
		namedArgs{"limit": limit, "every": turnEvery.Seconds()})
	if err != nil {
		return 0, fmt.Errorf("wake what is due: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

// retry decides whether a call that failed with err is tried again, and when.
func (c Child) retry(err error) (after time.Duration, again bool) {
	asked, ok := service.Retryable(err)
	if !ok {
		return 0, false
	}
	return nextTry(c.Policy, c.Tries, asked, c.Deadline)
}

// retry decides whether a task that failed with err, which may be nil, begins anew,
// and when.
func (b *Body) retry(err *service.Error) (after time.Duration, again bool) {
	if err == nil || b.Interrupt != "" || err.Name == nameNonRetryable || err.Code == service.CodeCancelled {
		return 0, false
	}
	return nextTry(b.Policy, b.Tries, 0, b.Deadline)
}

// nextTry is when the next try is due after so many that failed, if there is one.
// The service may ask for a longer wait. A try that could not begin in time is none.
func nextTry(policy service.Policy, failed int, asked time.Duration, deadline time.Time) (after time.Duration, again bool) {
	if failed >= policy.Retries {
		return 0, false
	}
	wait := policy.Wait(failed + 1)
	after = max(min(asked, maxAsked), wait/2+rand.N(wait/2+1)) // so that many do not come back at once
	return after, deadline.IsZero() || time.Until(deadline) > after
}

// maxAsked bounds how long a service may ask to be left alone.
const maxAsked = 24 * time.Hour

// again puts a call aside until its next try. f is the frame of one that is a body.
func (p *Processor) again(ctx context.Context, host Host, service string, f *frame, a Attempt) {
	land, cancel := mustLand(ctx)
	defer cancel()
	began := time.Now()
	err := p.cfg.Store.Again(land, host, a)
	p.observeCommit("retry", began, err)
	switch {
	case err == nil:
		p.ended(a.Settled...)
		p.observe(a.notes.event(Event{Kind: EventTried, StackRun: a.ID, Parent: a.parent, TaskRun: a.TaskRun, Err: a.Err}))
		p.remind(Timer{ID: a.ID, Service: service, In: a.After})
	case errors.Is(err, ErrClaimLost):
		p.cfg.Log.Debug("claim lost", "stack_run", a.ID)
		p.drop(ctx, host, a.owed(f))
		if a.Held { // it was interrupted, or a reply was lost: as in stop
			p.yield(ctx, host, a.ID, a.Slice)
		}
	default:
		owed := a.owed(f)
		p.abandon(ctx, host, err, append(bodies(owed), a.ID)...)
	}
}

// owed are the replies that nobody has committed if the attempt is not.
func (a Attempt) owed(f *frame) []Ending {
	if f == nil {
		return a.Settled
	}
	return append(a.Settled, f.lose()...)
}
