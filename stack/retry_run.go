package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// A run that failed can be retried: it goes on from the last snapshot of its body,
// before the slice that failed. That slice is given the replies that it had, byte for
// byte and in the same order, but for those that were failures: such a call is sent
// again, under another idempotency key, unless the task gave its own: that stands for
// an effect, which may have come about although the call failed. A nested task that
// failed is retried in the same way. What was open when the body ended, and was
// cancelled, goes on as if nothing had happened, nested tasks from their beginning.

// CodeNotRetryable is the code of the error for a run that cannot be retried.
const CodeNotRetryable = "NOT_RETRYABLE"

// How a row is taken up again by a retry; amber.attempts.retry has all but the last.
const (
	retryAgain  = "again"  // a call that failed is sent again, under another key; a timer sleeps on
	retryOpen   = "open"   // a call that was cancelled goes on, under the same key
	retryResume = "resume" // a body goes on from its snapshot
	retryAnew   = "anew"   // a body begins anew
	retrySeen   = "seen"   // a reply is given once more
)

// RetryRun has a run that failed go on from its last snapshot, or, with currentCode,
// begin anew in its place, with the code that is published now or that it brought
// along; so does one that was never suspended. It gets all of the time again that it
// had. ErrRunNotFound if there is none; a *service.Error with code NOT_RETRYABLE says
// why it cannot be, and what can be done: it has not failed (with currentCode it may
// have been cancelled as well), or it was called by another, or what it needs is gone;
// with code TASK_NOT_FOUND, that there is no current code. Nothing is changed then.
func (s *Store) RetryRun(ctx context.Context, run uuid.UUID, currentCode bool) error {
	if currentCode { // what there is no code for must not lose what it has
		p, err := s.Recorded(ctx, run)
		if err != nil {
			return err
		}
		if p.Code == "" {
			if _, err := s.Task(ctx, p.Task); err != nil {
				return err
			}
		}
	}
	return s.tx(ctx, "retry run", func(tx pgx.Tx) error {
		root, err := retryRoot(ctx, tx, run, currentCode)
		if err != nil {
			return err
		}
		level, anew := []retryRow{root}, currentCode
		for len(level) > 0 {
			if level, err = s.retryLevel(ctx, tx, level, anew); err != nil {
				return err
			}
		}
		return nil
	})
}

// retryRow is a row that a retry takes up again.
type retryRow struct {
	ID     uuid.UUID
	Caller uuid.UUID // uuid.Nil for the run's own body
	Place  *int      // among the replies that its caller's slice was given
	kind   string
	left   *float64 // of a body: the seconds that it has, if it has only so many
}

// retryRoot locks the body of a run, if it can be retried.
func retryRoot(ctx context.Context, tx pgx.Tx, run uuid.UUID, currentCode bool) (root retryRow, err error) {
	var status string
	var nested, going bool
	err = tx.QueryRow(ctx, `/* RetryRun: root */
		select id, status, parent_stack_run_id is not null from public.stack_runs where child_task_run_id = @run for update`,
		namedArgs{"run": run}).Scan(&root.ID, &status, &nested)
	if errors.Is(err, pgx.ErrNoRows) {
		return root, unbegunRetry(ctx, tx, run)
	}
	if err != nil {
		return root, err
	}
	if nested {
		var top uuid.UUID
		err := tx.QueryRow(ctx, `/* RetryRun: top */
			with recursive up as (
				select id, parent_run_id, 0 as height from public.task_runs where id = @run
				union all
				select t.id, t.parent_run_id, up.height + 1 from public.task_runs t join up on t.id = up.parent_run_id
			)
			select id from up order by height desc limit 1`, namedArgs{"run": run}).Scan(&top)
		if err != nil {
			return root, err
		}
		return root, notRetryable("The run %s was called by another task, which has the say about it: retry the run %s, from which all came, or start it once more by itself with a rerun.", run, top)
	}
	switch {
	case status == StatusCancelled && !currentCode:
		return root, notRetryable("The run %s was cancelled. It can begin anew: retry it with the current code, or start another with a rerun.", run)
	case status == StatusCompleted:
		return root, notRetryable("The run %s has completed: start another with a rerun.", run)
	case !ended(status):
		return root, notRetryable("The run %s has not ended: it is retried when it has failed, and cancelled before that.", run)
	}
	err = tx.QueryRow(ctx, `/* RetryRun: removed */ select exists (select from amber.removal where part = @run)`, namedArgs{"run": run}).Scan(&going)
	if err != nil {
		return root, err
	}
	if going {
		return root, notRetryable("The run %s ended longer ago than runs of its task are kept, and is being removed: start another with a rerun.", run)
	}
	err = tx.QueryRow(ctx, `/* RetryRun: time */
		select extract(epoch from t.deadline_at - greatest(t.created_at,
			(select max(a.next_at) from amber.attempts a where a.stack_run_id = @id and a.retry is not null)))::float8
		from public.task_runs t where t.id = @run`, namedArgs{"id": root.ID, "run": run}).Scan(&root.left)
	return root, lostRun(err)
}

// unbegunRetry says why a run without a body is not retried.
func unbegunRetry(ctx context.Context, tx pgx.Tx, run uuid.UUID) error {
	var status string
	err := tx.QueryRow(ctx, `/* RetryRun: bodiless */ select status from public.task_runs where id = @run`, namedArgs{"run": run}).Scan(&status)
	if err != nil {
		return lostRun(err)
	}
	return notRetryable("The run %s is %s and nothing is kept of what it did: start another with a rerun.", run, status)
}

func lostRun(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrRunNotFound
	}
	return err
}

func notRetryable(format string, args ...any) error {
	return &service.Error{Code: CodeNotRetryable, Status: http.StatusConflict, Message: fmt.Sprintf(format, args...)}
}

// retryLevel takes up rows that have ended, whose callers have been, and returns the
// rows below those that go on. The rows are locked, callers first.
func (s *Store) retryLevel(ctx context.Context, tx pgx.Tx, level []retryRow, anew bool) (below []retryRow, err error) {
	if err := decideRetry(ctx, tx, level, anew); err != nil {
		return nil, err
	}
	if root := level[0]; root.Caller == uuid.Nil && root.kind == retrySeen {
		return nil, notRetryable("What the run needs to go on from where it failed is not kept any more. It can begin anew: retry it with the current code, or start another with a rerun.")
	}
	if err := s.retryTimes(ctx, tx, level); err != nil {
		return nil, err
	}
	var b batch
	queueRetried(&b, level)
	if err := b.send(ctx, tx); err != nil {
		return nil, err
	}
	return belowRetried(ctx, tx, level)
}

// decideRetry locks rows and decides what becomes of each. Of a nested run that is
// gone, or of a root's body that cannot go on, its end remains what it was.
func decideRetry(ctx context.Context, tx pgx.Tx, level []retryRow, anew bool) error {
	rows, err := tx.Query(ctx, `/* RetryRun: rows */
		select s.id, case
			when s.status not in ('failed', 'cancelled') then 'seen'
			when s.child_task_run_id is null and (s.status = 'failed' or exists (
				select from amber.replies r where r.stack_run_id = s.id and r.kind = 'reply')) then 'again'
			when s.child_task_run_id is null then 'open'
			when not exists (select from public.task_runs t where t.id = s.child_task_run_id) then 'seen'
			when @anew or s.status = 'cancelled' or s.sequence = s.first_sequence then 'anew'
			when exists (select from amber.failures f where f.stack_run_id = s.id) and exists (
				select from amber.snapshots n where n.stack_run_id = s.id and n.sequence = s.sequence
					-- One that has seen that its time is over would go on to tidy up.
					and (s.interrupted_at is null or n.updated_at <= s.interrupted_at)) then 'resume'
			when s.parent_stack_run_id is null then 'seen' -- what it did is not repeated unless somebody says so
			else 'anew' end
		from public.stack_runs s where s.id = any(@ids) order by s.id for update`,
		namedArgs{"ids": idsOf(level, ""), "anew": anew})
	if err != nil {
		return err
	}
	kinds := map[uuid.UUID]string{}
	var id uuid.UUID
	var kind string
	if _, err := pgx.ForEachRow(rows, []any{&id, &kind}, func() error { kinds[id] = kind; return nil }); err != nil {
		return err
	}
	for i := range level {
		level[i].kind = kinds[level[i].ID]
	}
	return nil
}

// idsOf are the rows of that kind; of "", all.
func idsOf(rows []retryRow, kinds ...string) []uuid.UUID {
	ids := []uuid.UUID{} // never nil: SQL would take it for unknown
	for _, r := range rows {
		for _, kind := range kinds {
			if kind == "" || r.kind == kind {
				ids = append(ids, r.ID)
			}
		}
	}
	return ids
}

// retryTimes decides how much time rows have: as much as they were given when they
// were made, nested tasks no more than their callers, whose time is in left.
func (s *Store) retryTimes(ctx context.Context, tx pgx.Tx, level []retryRow) error {
	if level[0].Caller == uuid.Nil {
		return nil
	}
	own, err := s.ownTimes(ctx, tx, idsOf(level, retryAgain, retryOpen, retryResume, retryAnew))
	if err != nil {
		return err
	}
	for i := range level {
		r := &level[i]
		if body := r.kind == retryResume || r.kind == retryAnew; !body {
			r.left = nil
		}
		if seconds, ok := own[r.ID]; ok && (r.left == nil || seconds < *r.left) {
			r.left = &seconds
		}
	}
	return nil
}

// ownTimes are the timeouts with which calls were made, in seconds, of those that had
// one.
func (s *Store) ownTimes(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) (map[uuid.UUID]float64, error) {
	rows, err := tx.Query(ctx, `/* RetryRun: requests */
		select r.stack_run_id, r.key_id, r.data from amber.replies r join public.stack_runs s on s.id = r.stack_run_id
			left join public.task_runs t on t.id = s.child_task_run_id
		where r.stack_run_id = any(@ids) and r.kind = 'request' and coalesce(t.deadline_at, s.deadline_at) is not null`,
		namedArgs{"ids": ids})
	if err != nil {
		return nil, err
	}
	own := map[uuid.UUID]float64{}
	var id uuid.UUID
	var keyID string
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &keyID, &sealed}, func() error {
		var asked request
		if err := s.openBytes(id, kindRequest, keyID, sealed, &asked); err != nil {
			return err
		}
		if o, err := parseOptions(asked.Call.Options, asked.Call.Service); err == nil && o.timeout > 0 { // else it was refused
			own[id] = o.timeout.Seconds()
		}
		return nil
	})
	return own, err
}

// queueRetried queues what becomes of the rows.
func queueRetried(b *batch, level []retryRow) {
	tried := idsOf(level, retryAgain, retryOpen, retryResume, retryAnew)
	kinds, left := make([]string, 0, len(tried)), make([]*float64, 0, len(tried))
	ids := make([]uuid.UUID, 0, len(tried))
	var told []uuid.UUID
	var places []*int
	for _, r := range level {
		if r.kind == retrySeen {
			told, places = append(told, r.ID), append(places, r.Place)
			continue
		}
		ids, kinds, left = append(ids, r.ID), append(kinds, r.kind), append(left, r.left)
	}
	if len(told) > 0 {
		b.Queue(`/* RetryRun: seen */
			update public.stack_runs s set delivered = false, retold = r.place, updated_at = now()
			from unnest(@ids::uuid[], @places::int[]) as r (id, place) where s.id = r.id`,
			namedArgs{"ids": told, "places": places})
	}
	if len(ids) == 0 {
		return
	}
	b.Queue(`/* RetryRun: attempts */
		insert into amber.attempts (stack_run_id, attempt, started_at, ended_at, error, next_at, retry, key, after_line, last_line)
		select s.id, s.tries + 1, s.started_at, coalesce(s.ended_at, now()), s.error, now(), r.kind, s.idempotency_key,
			case r.kind when 'resume' then coalesce(f.line, 0) when 'anew' then 0 end,
			case when r.kind in ('resume', 'anew') then coalesce((select max(l.id) from amber.logs l where l.task_run_id = s.child_task_run_id), 0) end
		from unnest(@ids::uuid[], @kinds::text[]) as r (id, kind) join public.stack_runs s on s.id = r.id
			left join amber.failures f on f.stack_run_id = s.id`, namedArgs{"ids": ids, "kinds": kinds})
	b.Queue(`/* RetryRun: replies */ delete from amber.replies where stack_run_id = any(@ids) and kind = 'reply'`, namedArgs{"ids": ids})
	b.Queue(`/* RetryRun: crashes */ delete from amber.crashes where stack_run_id = any(@ids)`, namedArgs{"ids": ids})
	// What waits for a time that has not come sleeps on, a timer also if it has failed: one
	// that is pending fires. A slice that was cut short, and that its host still runs, has
	// another attempt: it is from the same snapshot.
	b.Queue(`/* RetryRun: tried */
		update public.stack_runs s set result = null, error = null, ended_at = null, delivered = false, retold = null, tries = 0, claimed_by = null, attempt = s.attempt + 1,
			stuck_reason = null, stuck_key = null, interrupt = null, interrupted_at = null, cancel_requested_at = null, waiting_on_stack_run_id = null,
			turn_at = now(), updated_at = now(), deadline_at = clock_timestamp() + make_interval(secs => r.left),
			status = case when r.kind = 'resume' then 'suspended_waiting_child'
				when s.service_name in ('sleep', 'timer') and s.due_at is not null or r.kind in ('open', 'anew') and s.due_at > now() then 'sleeping'
				else 'pending' end,
			due_at = case when s.service_name in ('sleep', 'timer') or r.kind in ('open', 'anew') and s.due_at > now() then s.due_at end,
			idempotency_key = case when r.kind = 'again' and s.idempotency_key not like '%/%' then gen_random_uuid()::text else s.idempotency_key end,
			sequence = case when r.kind = 'anew' then s.sequence + 1 else s.sequence end,
			first_sequence = case when r.kind = 'anew' then s.sequence + 1 else s.first_sequence end,
			engine = case when r.kind = 'anew' then null else s.engine end
		from unnest(@ids::uuid[], @kinds::text[], @left::float8[]) as r (id, kind, "left") where s.id = r.id`,
		namedArgs{"ids": ids, "kinds": kinds, "left": left})
	b.Queue(`/* RetryRun: runs */
		update public.task_runs t set status = case r.kind when 'resume' then 'suspended' else 'queued' end, attempt = t.attempt + 1,
			result = null, error = null, logs = null, ended_at = null, stuck_reason = null, cancel_requested_at = null, waiting_on_stack_run_id = null,
			deadline_at = clock_timestamp() + make_interval(secs => r.left), updated_at = now()
		from unnest(@ids::uuid[], @kinds::text[], @left::float8[]) as r (id, kind, "left") join public.stack_runs s on s.id = r.id
		where t.id = s.child_task_run_id`, namedArgs{"ids": ids, "kinds": kinds, "left": left})
	if anew := idsOf(level, retryAnew); len(anew) > 0 {
		b.Queue(`/* RetryRun: forget */ select amber.forget_bodies(@ids)`, namedArgs{"ids": anew})
		// Numbers are those of the calls that a body has made since it began.
		b.Queue(`/* RetryRun: forget calls */
			update public.stack_runs set call_id = null, updated_at = now() where parent_stack_run_id = any(@ids) and call_id is not null`,
			namedArgs{"ids": anew})
	}
}

// belowRetried returns the calls that bodies which go on from their snapshots have to
// be answered, and lets go on at once those that have a reply.
func belowRetried(ctx context.Context, tx pgx.Tx, level []retryRow) (below []retryRow, err error) {
	bodies := idsOf(level, retryResume)
	if len(bodies) == 0 {
		return nil, nil
	}
	left := map[uuid.UUID]*float64{}
	for _, r := range level {
		left[r.ID] = r.left
	}
	rows, err := tx.Query(ctx, `/* RetryRun: below */
		select c.id, f.stack_run_id as caller, array_position(f.seen, c.id) as place
		from amber.failures f join public.stack_runs c on c.id = any(f.seen || f.open) where f.stack_run_id = any(@bodies)
		union
		select c.id, c.parent_stack_run_id, null from public.stack_runs c -- what had ended, and the body did not come to see
		where c.parent_stack_run_id = any(@bodies) and not c.delivered and c.call_id is not null and c.status in ('completed', 'failed', 'cancelled')`,
		namedArgs{"bodies": bodies})
	if err != nil {
		return nil, err
	}
	below, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r retryRow, err error) {
		err = row.Scan(&r.ID, &r.Caller, &r.Place)
		r.left = left[r.Caller]
		return r, err
	})
	if err != nil {
		return nil, err
	}
	var b batch
	b.Queue(`/* RetryRun: unsent */
		update public.stack_runs set call_id = null, updated_at = now()
		where id = any(array(select unnest(unsent) from amber.failures where stack_run_id = any(@bodies)))`, namedArgs{"bodies": bodies})
	b.Queue(`/* RetryRun: failures */ delete from amber.failures where stack_run_id = any(@bodies)`, namedArgs{"bodies": bodies})
	// The calls below have not been taken up yet, so those that failed still have ended.
	b.Queue(`/* RetryRun: wake */
		with going as (
			select p.id, (select min(c.id::text)::uuid from public.stack_runs c where c.id = any(@below) and c.parent_stack_run_id = p.id and c.status <> 'completed') as waits,
				exists (select from public.stack_runs c where c.id = any(@below) and c.parent_stack_run_id = p.id and (c.status = 'completed'
					or c.child_task_run_id is not null and not exists (select from public.task_runs t where t.id = c.child_task_run_id))) as given
			from unnest(@bodies::uuid[]) as p (id)
		), runs as (
			update public.task_runs t set waiting_on_stack_run_id = g.waits from going g join public.stack_runs s on s.id = g.id where t.id = s.child_task_run_id
		)
		update public.stack_runs s set waiting_on_stack_run_id = g.waits, updated_at = now(),
			status = case when g.given or g.waits is null then 'pending_resume' else s.status end
		from going g where s.id = g.id`, namedArgs{"bodies": bodies, "below": idsOf(below, "")})
	return below, b.send(ctx, tx)
}

// Retry has a run that failed go on: see [Store.RetryRun]. It returns the run as it is
// then.
func (p *Processor) Retry(ctx context.Context, run uuid.UUID, currentCode bool) (Run, error) {
	r, err := p.cfg.Store.Run(ctx, run)
	if err != nil {
		return r, err
	}
	if err := p.cfg.Store.RetryRun(ctx, r.ID, currentCode); err != nil {
		return r, err
	}
	p.nudge()
	return p.cfg.Store.Run(ctx, r.ID)
}
