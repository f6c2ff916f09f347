package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// Host is one incarnation of a host: what its claims and fences carry.
type Host struct {
	ID      uuid.UUID // a new one each time the lease was lost
	Name    string
	Engines []string // that it can run, its own first: see vm.Engine.Identities
	// Memory is how many bytes one VM may have: see vm.Engine.MaxMemory. 0: any number.
	Memory uint64
	// Leaving makes commits leave to any host what they would give to this one.
	Leaving bool
}

// takes reports whether commits may give work to the host.
func (h Host) takes() bool { return h.ID != uuid.Nil && !h.Leaving }

// Ending is how one stack_run ends: a service call, a timer or a task body.
type Ending struct {
	ID     uuid.UUID
	Parent uuid.UUID // the body that made the call; uuid.Nil for a run's own body
	CallID uint32    // its number within that body
	Reply  service.Reply
	Secret bool // show {"redacted": true} instead of the reply

	// The rest is for bodies.

	TaskRun uuid.UUID // the run whose body this is; uuid.Nil for a call that is not a body
	// Slice is the last slice.
	Slice
	Interrupt  string  // why the body was to end, as far as whoever ends it knows
	Forced     bool    // whoever holds the row
	CancelOpen bool    // calls are open that nobody will wait for
	Unsent     []Child // those of them that the last slice made: recorded, never sent
	Task       string  // whose body this is; "" will do if there is nothing unsent

	from    *frame // where late replies wait, in case this ending is not committed
	givenUp string // the call that failed after more tries than one, as its task wrote it
	tried   int    // how many they were

	notes    *notes // for the observer
	gone     bool   // somebody else has ended the call: there is nothing to commit
	reserved int64  // bytes of room.replies that are kept free for it
}

// owed are the replies that nobody has committed if this ending is not committed.
func (e Ending) owed() []Ending {
	if e.from == nil {
		return e.Settled
	}
	return append(e.Settled, e.from.lose()...)
}

// Slice is what a body's slice leaves to be committed with it.
type Slice struct {
	Sequence  int64       // snapshots taken of the body before this slice; 0 for a call
	Held      bool        // the row is processing and ours; false: it waits, and Sequence is the fence
	Settled   []Ending    // calls answered in this process and not yet committed
	Delivered []uuid.UUID // calls whose committed replies the slice has seen
	Logs      []vm.Log
	attempt   *int // of the row, if known: a retry of its run has another go on from the same snapshot, or ask again
}

// noSequence matches no row: a row that is held needs no sequence.
const noSequence = -1

func (sl Slice) fence() int64 {
	if sl.Held {
		return noSequence
	}
	return sl.Sequence
}

// end adds what ends e and, if it is a body, everything that
// its last slice settled. delivered says that the caller's committed slice has
// seen the reply; kept that a body which failed may have to go on once more: none
// has, but perhaps a last slice that failed with it.
func (s *Store) end(b *batch, host Host, e Ending, delivered, kept bool) error {
	status, result, failure := outcome(e)
	kept = kept && status == StatusFailed
	r := &b.rows.ends
	r.ids, r.statuses, r.results, r.errors = append(r.ids, e.ID), append(r.statuses, status), append(r.results, texts(result)), append(r.errors, texts(failure))
	r.delivered, r.forced, r.interrupts = append(r.delivered, delivered), append(r.forced, e.Forced), append(r.interrupts, e.Interrupt)
	r.sequences, r.fences, r.attempts = append(r.sequences, e.Sequence), append(r.fences, e.fence()), append(r.attempts, e.attempt)
	if err := s.putBytes(b, e.ID, kindReply, e.Reply); err != nil {
		return err
	}
	if e.givenUp != "" {
		queueGivenUp(b, e)
	}
	if e.TaskRun == uuid.Nil {
		return nil
	}
	if kept {
		queueFailure(b, e)
	}
	if err := s.settle(b, host, e.ID, e.TaskRun, e.Slice, kept); err != nil {
		return err
	}
	if e.Interrupt != "" && !e.Held {
		queueBelowFirst(b, e.ID)
	}
	if e.Sequence > 0 && !kept {
		b.then(`/* end: forget */ select amber.forget_bodies(array[@id::uuid])`, namedArgs{"id": e.ID})
	}
	if e.CancelOpen {
		queueCancelOpen(b, e.ID)
	}
	for _, c := range e.Unsent {
		if err := queueUnsent(b, e, c); err != nil {
			return err
		}
	}
	runs := &b.rows.ended
	runs.ids, runs.statuses = append(runs.ids, e.TaskRun), append(runs.statuses, status)
	runs.results, runs.errors = append(runs.results, texts(result)), append(runs.errors, texts(failure))
	return nil
}

// maxRunLogs bounds the copy of the logs in task_runs.logs.
const maxRunLogs = 500

// settle adds what every committed slice of a body carries. failed says that it
// is the last one of a body that failed and is kept: then those that it saw fail are.
func (s *Store) settle(b *batch, host Host, id, taskRun uuid.UUID, sl Slice, failed bool) error {
	for _, e := range sl.Settled {
		if err := s.end(b, host, e, true, failed); err != nil {
			return err
		}
	}
	if len(sl.Delivered) > 0 {
		b.then(`/* settle: delivered */ update public.stack_runs set delivered = true, updated_at = now() where id = any(@ids)`,
			namedArgs{"ids": sl.Delivered})
		if !failed {
			b.then(`/* settle: forget */
				select amber.forget_bodies(array(select stack_run_id from amber.failures where stack_run_id = any(@ids)))`,
				namedArgs{"ids": sl.Delivered})
		}
	}
	b.rows.logs.add(taskRun, id, sl.Logs)
	return nil
}

// outcome is what the public columns say of an ending. A task that throws the error
// of a run that was cancelled, or one that looks like it, has failed.
func outcome(e Ending) (status string, result, failure json.RawMessage) {
	if e.Reply.Err != nil {
		failure, _ = json.Marshal(storable(e.Reply.Err))
		if e.Reply.Err.Code == service.CodeCancelled && (e.TaskRun == uuid.Nil || e.Interrupt == interruptCancel || e.Forced) {
			return StatusCancelled, nil, failure
		}
		return StatusFailed, nil, failure
	}
	if e.Secret {
		return StatusCompleted, json.RawMessage(`{"redacted": true}`), nil
	}
	if e.Reply.Value == nil {
		return StatusCompleted, json.RawMessage("null"), nil
	}
	return StatusCompleted, e.Reply.Value, nil
}

// queueCancelOpen cancels every call below the body that has not ended, and the
// runs of those that are bodies. The body's row has to be locked.
func queueCancelOpen(b *batch, id uuid.UUID) {
	b.then(`/* cancel open */ select amber.cancel_below(@id, @reason)`, namedArgs{"id": id, "reason": cancelReason})
}

// cancelReason is the error of a call that nobody waits for any more.
var cancelReason = json.RawMessage(`{"code": "` + service.CodeCancelled + `", "message": "The caller ended before this call did."}`)

// queueUnsent records a call that a task made and did not wait for.
func queueUnsent(b *batch, e Ending, c Child) error {
	args, err := c.args()
	if err != nil {
		return err
	}
	b.then(`/* end: unsent */
		insert into public.stack_runs (id, parent_task_run_id, parent_stack_run_id, parent_run_id, service_name, module_name,
			method_name, args, status, error, call_id, delivered, ended_at, idempotency_key)
		values (@id, @task_run, @parent, @task_run, @service, @service, @method, @args, 'cancelled', @reason, @call_id, true, now(), @key)`,
		namedArgs{"id": c.ID, "task_run": e.TaskRun, "parent": e.ID, "service": text(c.Call.Service),
			"method": text(c.Call.Method()), "args": args, "reason": cancelReason, "call_id": int64(c.CallID), "key": c.key(e.Task)})
	return nil
}

// Complete ends a stack_run in a transaction of its own: with its value, or, if
// its reply is an error, as failed. It is used when the caller's body is not at
// hand in this process; otherwise the ending travels in the caller's next
// [Store.Suspend]. It reports whether the caller was waiting and is now held by
// host: then host must resume it.
func (s *Store) Complete(ctx context.Context, host Host, e Ending) (resume bool, err error) {
	b := batch{host: host.ID}
	if err := s.queueComplete(&b, host, e, &resume); err != nil {
		return false, fmt.Errorf("complete stack run: %w", err)
	}
	err = s.atOnce(ctx, "complete stack run", &b)
	return resume && err == nil, err
}

// complete is Complete within a transaction.
func (s *Store) complete(ctx context.Context, tx pgx.Tx, host Host, e Ending) (resume bool, err error) {
	b := batch{host: host.ID}
	if err := s.queueComplete(&b, host, e, &resume); err != nil {
		return false, err
	}
	err = b.send(ctx, tx)
	return resume, err
}

func (s *Store) queueComplete(b *batch, host Host, e Ending, resume *bool) error {
	if e.Parent != uuid.Nil {
		b.Queue(`/* Complete: lock caller */
			with caller as (select from public.stack_runs where id = @id for update)
			select case when not exists (select from caller) then amber.stop('AMB01') end`, namedArgs{"id": e.Parent})
	}
	if err := s.end(b, host, e, false, true); err != nil {
		return err
	}
	if e.Parent != uuid.Nil {
		b.flush()
		// A body of another engine, sealed with a key that is not here, or larger than
		// this host takes, is left to another. One that has to wait for others is not
		// resumed.
		b.Queue(`/* Complete: resume */
			update public.stack_runs s set updated_at = now(), resume_payload = null,
				(status, claimed_by) = (
					select case when ours then 'processing' else 'pending_resume' end, case when ours then @host::uuid end
					from (select coalesce(s.engine = any(@engines) and @works and `+opensSQL+` and `+fitsSQL+`, false) as ours) o)
			where id = @parent and status = 'suspended_waiting_child' and not `+belowFirstSQL+` returning claimed_by is not null`,
			namedArgs{"parent": e.Parent, "host": host.ID, "engines": host.Engines, "works": host.takes(), "keys": s.ring.IDs(), "memory": host.memory()}).
			QueryRow(func(row pgx.Row) error {
				err := row.Scan(resume)
				if errors.Is(err, pgx.ErrNoRows) { // it does not wait, or has to wait for others
					return nil
				}
				return err
			})
	}
	return nil
}

// lockCaller locks a body, as whoever touches its calls must first.
func lockCaller(ctx context.Context, tx pgx.Tx, body uuid.UUID) error {
	err := tx.QueryRow(ctx, `/* lockCaller */ select id from public.stack_runs where id = @id for update`, namedArgs{"id": body}).Scan(&body)
	return lostIfGone(err)
}

// Answer ends a call as Complete does, whoever holds it: its holder's own answer
// comes too late. [ErrNotWaiting] if it has ended.
func (s *Store) Answer(ctx context.Context, host Host, e Ending) (resume bool, err error) {
	err = s.tx(ctx, "answer call", func(tx pgx.Tx) error {
		if e.Parent != uuid.Nil {
			if err := lockCaller(ctx, tx, e.Parent); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `/* Answer */
			update public.stack_runs set status = 'processing', claimed_by = @host, started_at = coalesce(started_at, now()), updated_at = now()
			where id = @id and status not in ('completed', 'failed', 'cancelled')`,
			namedArgs{"id": e.ID, "host": host.ID})
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotWaiting
		}
		resume, err = s.complete(ctx, tx, host, e)
		return err
	})
	if errors.Is(err, ErrClaimLost) { // its caller was deleted
		err = ErrNotWaiting
	}
	return resume && err == nil, err
}

func lostIfGone(err error) error {
	if err == pgx.ErrNoRows {
		return ErrClaimLost
	}
	return err
}
