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
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// Caller is on whose behalf a run runs; nested runs inherit it.
type Caller struct {
	Owner  string          // uuid of a user, or ""
	Role   string          // anon, authenticated, service_role or ""
	Claims json.RawMessage // of the caller's JWT, or nil
}

// Child is a call that a body made: Suspend writes a stack_run for it, and for
// a nested task a task_run.
type Child struct {
	ID     uuid.UUID
	CallID uint32
	Call   service.Call

	TaskRun uuid.UUID       // the callee's run, if the call is a nested task
	Task    string          // its name
	Input   json.RawMessage // its input

	Timer bool          // the call is a timer: the row sleeps instead of being held
	After time.Duration // its duration; of a nested task, how long it sleeps before it begins
	At    time.Time     // when a nested task begins, instead of After

	Key      string         // what the service sees as its idempotency key, if the task gave one
	Sent     string         // what it sees all the same, if the row says so
	Policy   service.Policy // how it is tried again
	Tries    int            // that failed before this one
	Deadline time.Time      // when its time is over, by this host's clock; zero: never
	Priority int            // the caller's, unless the task gave a nested one its own

	prioritized bool // it did
	attempt     int  // how often it was claimed or retried by then: its last try may still be with its service

	Left  bool      // to any host: it is born pending
	Turn  int       // how many of the calls that were left with it come before it, from 1
	Group uuid.UUID // of the calls that wait for a place at their service, groups take turns

	SecretArgs bool // show {"redacted": true} instead of the arguments

	Refused *service.Error // the call is malformed: its answer, given without calling anything
}

// Suspension is a body that waits: all that Suspend commits.
type Suspension struct {
	ID        uuid.UUID // the body's stack_run
	TaskRun   uuid.UUID
	Task      string
	Caller    Caller
	Depth     int           // of nesting
	Root      uuid.UUID     // of the tree
	Grace     time.Duration // to tidy up, if it turns out to be interrupted
	Slice                   // the slice that led here
	Snapshot  *vm.Snapshot
	Calls     []Child
	Cancelled []uint32 // calls the task gave up
	Waits     int      // calls without a reply
}

// Suspended is what came of a suspension.
type Suspended struct {
	// Replies of calls that have ended meanwhile: if there are any, the body stays
	// held by the host, which must resume it.
	Replies []Reply
	// Interrupt is why the body is to end, if it learns of it by this. Its calls have
	// been rejected, those that it has just made too; nested tasks go on until they
	// have ended. Deadline is when its time to tidy up is over.
	Interrupt string
	Deadline  time.Time
}

// Suspend commits a slice that ended in a wait: the replies it was given in
// this process, the body's snapshot and its next calls, which are born held by
// host (timers: sleeping). A host that is leaving, or lacks the key of a reply that
// has come meanwhile, is given nothing.
func (s *Store) Suspend(ctx context.Context, host Host, sp Suspension) (after Suspended, err error) {
	var b batch
	if err := s.queueSuspend(&b, host, sp, nil); err != nil {
		return Suspended{}, fmt.Errorf("suspend stack run: %w", err)
	}
	b.Queue(`/* Suspend: nothing came */
		select case when exists (select from public.stack_runs where parent_stack_run_id = @id and not delivered
			and call_id is not null and status in ('completed', 'failed', 'cancelled')) then amber.stop('AMB02') end`, namedArgs{"id": sp.ID})
	if err = s.atOnce(ctx, "suspend stack run at once", &b); !errors.Is(err, errMore) {
		return Suspended{}, err
	}
	return s.suspendLooking(ctx, host, sp)
}

// suspendLooking is Suspend for a body that is to end, or some of whose calls have
// ended meanwhile.
func (s *Store) suspendLooking(ctx context.Context, host Host, sp Suspension) (after Suspended, err error) {
	err = s.tx(ctx, "suspend stack run", func(tx pgx.Tx) error {
		after = Suspended{}
		var b batch
		var foreign bool
		var interrupt *string
		if err := s.queueSuspend(&b, host, sp, &interrupt); err != nil {
			return err
		}
		read := func(rows pgx.Rows) (err error) {
			after.Replies, err = s.replies(rows)
			if foreign = errors.Is(err, keys.ErrUnknownKey); foreign {
				return nil
			}
			return err
		}
		b.Queue(repliesSQL, namedArgs{"body": sp.ID, "most": pieceBytes}).Query(read)
		if err := b.send(ctx, tx); err != nil {
			return err
		}
		if interrupt != nil {
			if goesOn, err := s.deliver(ctx, tx, sp, *interrupt, &after, read); err != nil || !goesOn {
				return err
			}
		}
		if len(after.Replies) == 0 && !foreign {
			return nil
		}
		status, claimed := StatusProcessing, &host.ID
		if foreign || !host.takes() {
			status, claimed, after.Replies = StatusResume, nil, nil
		}
		_, err := tx.Exec(ctx, `/* Suspend: resume */
			update public.stack_runs set status = @status, claimed_by = @host, updated_at = now() where id = @id`,
			namedArgs{"status": status, "host": claimed, "id": sp.ID})
		return err
	})
	if err != nil {
		return Suspended{}, err
	}
	return after, nil
}

// deliver interrupts a body that was asked to end while it ran, and reports whether
// it goes on at once: it waits for the bodies below it.
func (s *Store) deliver(ctx context.Context, tx pgx.Tx, sp Suspension, why string, after *Suspended, read func(pgx.Rows) error) (goesOn bool, err error) {
	var left float64
	err = tx.QueryRow(ctx, `/* Suspend: interrupt */
		select extract(epoch from amber.interrupt(@id, @why, @reason, make_interval(secs => @grace)) - clock_timestamp())::float8`,
		namedArgs{"id": sp.ID, "why": why, "reason": reasonOf(why), "grace": sp.Grace.Seconds()}).Scan(&left)
	if err != nil {
		return false, err
	}
	after.Interrupt, after.Deadline = why, time.Now().Add(time.Duration(left*float64(time.Second)))
	var status string
	if err := tx.QueryRow(ctx, `/* Suspend: interrupted */ select status from public.stack_runs where id = @id`, namedArgs{"id": sp.ID}).Scan(&status); err != nil {
		return false, err
	}
	if status == StatusWaiting {
		after.Replies = nil
		return false, nil
	}
	rows, err := tx.Query(ctx, repliesSQL, namedArgs{"body": sp.ID, "most": pieceBytes})
	if err != nil {
		return false, err
	}
	return true, read(rows)
}

// queueSuspend queues the statements of a suspension. interrupt becomes why the body
// is to end, if it does not know that yet; if interrupt is nil, that is an error.
func (s *Store) queueSuspend(b *batch, host Host, sp Suspension, interrupt **string) error {
	var waitingOn *uuid.UUID
	if len(sp.Calls) > 0 {
		waitingOn = &sp.Calls[0].ID
	}
	snapshot := sp.Snapshot.Encode()
	state, err := json.Marshal(map[string]any{
		"taskName": sp.Task, "taskRunId": sp.TaskRun, "sequence": sp.Snapshot.Sequence, "waits": sp.Waits,
		"snapshotBytes": len(snapshot), "memoryBytes": sp.Snapshot.Size,
	})
	if err != nil {
		return err
	}
	body := b.Queue(`/* Suspend: body */
		with body as (
			update public.stack_runs set status = 'suspended_waiting_child', claimed_by = null, sequence = @next,
				waiting_on_stack_run_id = coalesce(@waiting_on, waiting_on_stack_run_id), engine = @engine,
				vm_state = @state, stuck_reason = null, updated_at = now()
			where id = @id and sequence = @sequence and attempt = coalesce(@attempt, attempt) and (
				(status = 'processing' and claimed_by = @host)
				or (status = 'suspended_waiting_child' and sequence = @fence))
			returning case when interrupted_at is null then interrupt end as interrupt
		) select case when count(*) = 0 then amber.stop('AMB01') when @at_once and max(interrupt) is not null then amber.stop('AMB02') else max(interrupt) end from body`,
		namedArgs{"next": int64(sp.Snapshot.Sequence), "waiting_on": waitingOn, "engine": sp.Snapshot.Engine.String(),
			"state": json.RawMessage(state), "id": sp.ID, "sequence": sp.Sequence, "host": host.ID, "fence": sp.fence(), "attempt": sp.attempt,
			"at_once": interrupt == nil})
	if interrupt != nil {
		body.QueryRow(func(row pgx.Row) error { return row.Scan(interrupt) })
	}
	if err := s.settle(b, host, sp.ID, sp.TaskRun, sp.Slice, false); err != nil {
		return err
	}
	if len(sp.Cancelled) > 0 {
		b.Queue(`/* Suspend: cancelled */
			update public.stack_runs set status = 'cancelled', delivered = true, claimed_by = null,
				ended_at = now(), updated_at = now()
			where status not in ('completed', 'failed', 'cancelled') and id = any(array( -- of the thousands that it may have made
				select s.id from unnest(@calls::bigint[]) call, lateral (
					select id from public.stack_runs where parent_stack_run_id = @id and call_id = call offset 0) s))`,
			namedArgs{"id": sp.ID, "calls": sp.Cancelled})
	}
	queueSnapshot(b, sp.ID, sp.Snapshot.Header, snapshot)
	for _, c := range sp.Calls {
		if err := s.queueChild(b, host, sp, c); err != nil {
			return err
		}
	}
	b.Queue(`/* Suspend: run */
		update public.task_runs set status = 'suspended', waiting_on_stack_run_id = coalesce(@waiting_on, waiting_on_stack_run_id),
			stuck_reason = null, suspended_at = coalesce(suspended_at, now()), resumed_at = case when suspended_at is null then null else now() end,
			updated_at = now()
		where id = @run and status not in ('completed', 'failed', 'cancelled')`,
		namedArgs{"waiting_on": waitingOn, "run": sp.TaskRun})
	return nil
}

// queueSnapshot keeps a body's snapshot: a key frame in place of all before it,
// an increment beside those that it is based on.
func queueSnapshot(b *batch, id uuid.UUID, h vm.Header, data []byte) {
	const row = ` (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
		values (@id, @version, @codec, @engine, @image, @sequence, @key, @size, @data)`
	sql := `/* Suspend: increment */ insert into amber.increments` + row
	if !h.Increment() {
		sql = `/* Suspend: key frame */
		with based as (delete from amber.increments where stack_run_id = @id)
		insert into amber.snapshots` + row + `
		on conflict (stack_run_id) do update set version = excluded.version, codec = excluded.codec,
			engine = excluded.engine, image = excluded.image, sequence = excluded.sequence,
			key_id = excluded.key_id, size = excluded.size, data = excluded.data, updated_at = now()`
	}
	b.Queue(sql, namedArgs{"id": id, "version": int16(h.Version), "codec": int16(h.Codec), "engine": h.Engine[:],
		"image": h.Image[:], "sequence": int64(h.Sequence), "key": h.KeyID, "size": int64(h.Size), "data": data})
}

func (s *Store) queueChild(b *batch, host Host, sp Suspension, c Child) error {
	args, err := c.args()
	if err != nil {
		return err
	}
	status, claimed, runStatus := StatusProcessing, &host.ID, StatusProcessing
	var due *float64
	switch {
	case c.sleeps():
		seconds := c.After.Seconds()
		status, claimed, runStatus, due = StatusSleeping, nil, StatusQueued, &seconds
	case c.Left, !host.takes():
		status, claimed, runStatus = StatusPending, nil, StatusQueued
	}
	if c.TaskRun != uuid.Nil {
		queueTaskRun(b, taskRun{ID: c.TaskRun, Parent: sp.TaskRun, Task: c.Task, Input: c.Input, Status: runStatus, Caller: sp.Caller,
			Priority: c.Priority, At: nullTime(c.At), After: due, Left: secondsUntil(c.Deadline)})
	}
	b.Queue(`/* Suspend: call */
		insert into public.stack_runs (id, parent_task_run_id, parent_stack_run_id, parent_run_id, child_task_run_id,
			service_name, module_name, method_name, args, status, claimed_by, call_id, due_at, started_at, idempotency_key,
			priority, deadline_at, turn_at)
		values (@id, @task_run, @parent, @task_run, @child, @service, @service, @method, @args, @status, @claimed_by, @call_id,
			coalesce(@at, clock_timestamp() + make_interval(secs => @due)), case when @status <> 'pending' then now() end, @key,
			@priority, clock_timestamp() + make_interval(secs => @left), now() + make_interval(secs => @turn))`,
		namedArgs{"id": c.ID, "task_run": sp.TaskRun, "parent": sp.ID, "child": nullID(c.TaskRun),
			"service": text(c.Call.Service), "method": text(c.Call.Method()), "args": args, "status": status,
			"claimed_by": claimed, "call_id": int64(c.CallID), "due": due, "at": nullTime(c.At), "key": c.key(sp.Task),
			"priority": c.Priority, "left": secondsUntil(c.Deadline), "turn": (time.Duration(c.Turn) * turnEvery).Seconds()})
	asked := request{Call: c.Call, Root: &sp.Root, Refused: c.Refused}
	if c.TaskRun != uuid.Nil {
		asked.Depth = sp.Depth + 1
	}
	return s.putBytes(b, c.ID, kindRequest, asked)
}

// turnEvery is how far apart the calls are that are left to any host by one
// suspension: what comes from others meanwhile is in between. It says who is first,
// and not when.
const turnEvery = 5 * time.Millisecond

// args is the call's args column.
func (c Child) args() (json.RawMessage, error) {
	if c.Refused != nil || len(c.Call.Args()) == 0 {
		return json.RawMessage("[]"), nil // what was refused may be what jsonb cannot hold
	}
	if c.SecretArgs {
		return json.RawMessage(`[{"redacted": true}]`), nil
	}
	return encode(c.Call.Args())
}

// taskRun is a new row of task_runs.
type taskRun struct {
	ID, Parent uuid.UUID
	Task       string
	Input      json.RawMessage
	Status     string
	Caller     Caller

	Unpublished bool // it runs code of its own: Task is only its name

	Priority int
	At       *time.Time // when it is to begin
	After    *float64   // in how many seconds, instead
	Left     *float64   // seconds until its time is over
	Key      string     // under which it is started; "": none
	Hash     []byte     // of what was asked for under it
}

func queueTaskRun(b *batch, r taskRun) {
	var owner *string
	if r.Caller.Owner != "" {
		owner = &r.Caller.Owner
	}
	b.Queue(`/* new run */
		insert into public.task_runs (id, task_function_id, task_name, input, status, parent_run_id, owner, caller_role,
			caller_claims, started_at, priority, scheduled_for, deadline_at,
			idempotency_key, idempotency_hash)
		values (@id, (select id from public.task_functions where name = @task and not @unpublished), @task, @input, @status, @parent, @owner,
			nullif(@role, ''), @claims, case when @status = 'processing' then now() end, @priority,
			coalesce(@at, clock_timestamp() + make_interval(secs => @after)), clock_timestamp() + make_interval(secs => @left),
			nullif(@key, ''), case when @key <> '' then @hash::bytea end)`,
		namedArgs{"id": r.ID, "task": r.Task, "unpublished": r.Unpublished, "input": r.Input, "status": r.Status, "parent": nullID(r.Parent),
			"owner": owner, "role": r.Caller.Role, "claims": r.Caller.Claims,
			"priority": r.Priority, "at": r.At, "after": r.After, "left": r.Left,
			"key": r.Key, "hash": r.Hash})
}
