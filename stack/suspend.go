package stack

import (
	"context"
	"encoding/json"
	"errors"
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
	After time.Duration // its duration

	Left bool // to any host: it is born pending

	SecretArgs bool // show {"redacted": true} instead of the arguments

	Refused *service.Error // the call is malformed: its answer, given without calling anything
}

// Suspension is a body that waits: all that Suspend commits.
type Suspension struct {
	ID        uuid.UUID // the body's stack_run
	TaskRun   uuid.UUID
	Task      string
	Caller    Caller
	Depth     int       // of nesting
	Root      uuid.UUID // of the tree
	Slice               // the slice that led here
	Snapshot  *vm.Snapshot
	Calls     []Child
	Cancelled []uint32 // calls the task gave up
	Waits     int      // calls without a reply
}

// Suspend commits a slice that ended in a wait: the replies it was given in
// this process, the body's snapshot and its next calls, which are born held by
// host (timers: sleeping). If calls of the body have ended meanwhile, their
// replies are returned and the body stays held by host, which must resume it.
// A host that is leaving, or lacks the key of such a reply, is given nothing.
func (s *Store) Suspend(ctx context.Context, host Host, sp Suspension) (more []Reply, err error) {
	err = s.tx(ctx, "suspend stack run", func(tx pgx.Tx) error {
		var b batch
		var foreign bool
		if err := s.queueSuspend(&b, host, sp); err != nil {
			return err
		}
		b.Queue(repliesSQL, pgx.StrictNamedArgs{"body": sp.ID, "most": pieceBytes}).Query(func(rows pgx.Rows) (err error) {
			more, err = s.replies(rows)
			if foreign = errors.Is(err, keys.ErrUnknownKey); foreign {
				return nil
			}
			return err
		})
		if err := b.send(ctx, tx); err != nil {
			return err
		}
		if len(more) == 0 && !foreign {
			return nil
		}
		status, claimed := StatusProcessing, &host.ID
		if foreign || !host.takes() {
			status, claimed, more = StatusResume, nil, nil
		}
		_, err := tx.Exec(ctx, `/* Suspend: resume */
			update public.stack_runs set status = @status, claimed_by = @host, updated_at = now() where id = @id`,
			pgx.StrictNamedArgs{"status": status, "host": claimed, "id": sp.ID})
		return err
	})
	if err != nil {
		return nil, err
	}
	return more, nil
}

func (s *Store) queueSuspend(b *batch, host Host, sp Suspension) error {
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
	b.fenced(`/* Suspend: body */
		update public.stack_runs set status = 'suspended_waiting_child', claimed_by = null, sequence = @next,
			waiting_on_stack_run_id = coalesce(@waiting_on, waiting_on_stack_run_id), engine = @engine,
			vm_state = @state, stuck_reason = null, updated_at = now()
		where id = @id and sequence = @sequence and (
			(status = 'processing' and claimed_by = @host)
			or (status = 'suspended_waiting_child' and sequence = @fence))`,
		pgx.StrictNamedArgs{"next": int64(sp.Snapshot.Sequence), "waiting_on": waitingOn, "engine": sp.Snapshot.Engine.String(),
			"state": json.RawMessage(state), "id": sp.ID, "sequence": sp.Sequence, "host": host.ID, "fence": sp.fence()})
	if err := s.settle(b, host, sp.ID, sp.TaskRun, sp.Slice); err != nil {
		return err
	}
	if len(sp.Cancelled) > 0 {
		b.Queue(`/* Suspend: cancelled */
			update public.stack_runs set status = 'cancelled', delivered = true, claimed_by = null,
				ended_at = now(), updated_at = now()
			where status not in ('completed', 'failed', 'cancelled') and id = any(array( -- of the thousands that it may have made
				select s.id from unnest(@calls::bigint[]) call, lateral (
					select id from public.stack_runs where parent_stack_run_id = @id and call_id = call offset 0) s))`,
			pgx.StrictNamedArgs{"id": sp.ID, "calls": sp.Cancelled})
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
		pgx.StrictNamedArgs{"waiting_on": waitingOn, "run": sp.TaskRun})
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
	b.Queue(sql, pgx.StrictNamedArgs{"id": id, "version": int16(h.Version), "codec": int16(h.Codec), "engine": h.Engine[:],
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
	case c.Timer:
		seconds := c.After.Seconds()
		status, claimed, due = StatusSleeping, nil, &seconds
	case c.Left, !host.takes():
		status, claimed, runStatus = StatusPending, nil, StatusQueued
	}
	if c.TaskRun != uuid.Nil {
		queueTaskRun(b, taskRun{ID: c.TaskRun, Parent: sp.TaskRun, Task: c.Task, Input: c.Input, Status: runStatus, Caller: sp.Caller})
	}
	b.Queue(`/* Suspend: call */
		insert into public.stack_runs (id, parent_task_run_id, parent_stack_run_id, parent_run_id, child_task_run_id,
			service_name, module_name, method_name, args, status, claimed_by, call_id, due_at, started_at, idempotency_key)
		values (@id, @task_run, @parent, @task_run, @child, @service, @service, @method, @args, @status, @claimed_by, @call_id,
			clock_timestamp() + make_interval(secs => @due), case when @status <> 'pending' then now() end, @key)`,
		pgx.StrictNamedArgs{"id": c.ID, "task_run": sp.TaskRun, "parent": sp.ID, "child": nullID(c.TaskRun),
			"service": text(c.Call.Service), "method": text(c.Call.Method()), "args": args, "status": status,
			"claimed_by": claimed, "call_id": int64(c.CallID), "due": due, "key": c.ID.String()})
	asked := request{Call: c.Call, Refused: c.Refused}
	if c.TaskRun != uuid.Nil {
		asked.Depth, asked.Root = sp.Depth+1, &sp.Root
	}
	return s.putBytes(b, c.ID, kindRequest, asked)
}

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
}

func queueTaskRun(b *batch, r taskRun) {
	var owner *string
	if r.Caller.Owner != "" {
		owner = &r.Caller.Owner
	}
	b.Queue(`/* new run */
		insert into public.task_runs (id, task_function_id, task_name, input, status, parent_run_id, owner, caller_role,
			caller_claims, started_at)
		values (@id, (select id from public.task_functions where name = @task and not @unpublished), @task, @input, @status, @parent, @owner,
			nullif(@role, ''), @claims, case when @status = 'processing' then now() end)`,
		pgx.StrictNamedArgs{"id": r.ID, "task": r.Task, "unpublished": r.Unpublished, "input": r.Input, "status": r.Status, "parent": nullID(r.Parent),
			"owner": owner, "role": r.Caller.Role, "claims": r.Caller.Claims})
}
