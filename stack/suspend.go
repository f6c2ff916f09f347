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

	prioritized bool   // it did
	codeRow     string // of the task, if it is one: see codes
	attempt     int    // how often it was claimed or retried by then: its last try may still be with its service

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

	codes map[string]string // which rows have the codes of the tasks that it called, as far as it has looked
}

// Suspend commits a slice that ended in a wait: the replies it was given in
// this process, the body's snapshot and its next calls, which are born held by
// host (timers: sleeping). A host that is leaving, or lacks the key of a reply that
// has come meanwhile, is given nothing.
func (s *Store) Suspend(ctx context.Context, host Host, sp Suspension) (after Suspended, err error) {
	codes, err := s.together.suspend(ctx, s, host, sp)
	if !errors.Is(err, errMore) {
		return Suspended{codes: codes}, err
	}
	return s.suspendLooking(ctx, host, sp)
}

// suspendAtOnce commits suspensions of one host in one transaction, all or none:
// ErrClaimLost if some body is not held by it, errMore if some has more to do.
// It returns which rows have the codes of the tasks that they call.
func (s *Store) suspendAtOnce(ctx context.Context, host Host, all []Suspension) (codes map[string]string, err error) {
	b := batch{host: host.ID}
	var bodies bodyRows
	for i := range all {
		if err := s.addSuspension(&b, &bodies, host, all[i]); err != nil {
			return nil, fmt.Errorf("suspend stack run: %w: %w", errUnsent, err)
		}
	}
	bodies.queue(&b, true)
	b.flush()
	// One of them may have ended by now: it was below a body that another one settled.
	b.Queue(`/* Suspend: nothing came */
		select case when exists (select from public.stack_runs where id = any(@ids) and status <> 'suspended_waiting_child') then amber.stop('AMB01')
			when exists (select from public.stack_runs where parent_stack_run_id = any(@ids) and not delivered
				and call_id is not null and status in ('completed', 'failed', 'cancelled')) then amber.stop('AMB02') end`, namedArgs{"ids": bodies.ids})
	queueCodes(&b, all, &codes)
	err = s.atOnce(ctx, "suspend stack runs", &b)
	return codes, err
}

// suspendLooking is Suspend for a body that is to end, or some of whose calls have
// ended meanwhile.
func (s *Store) suspendLooking(ctx context.Context, host Host, sp Suspension) (after Suspended, err error) {
	err = s.tx(ctx, "suspend stack run", func(tx pgx.Tx) error {
		after = Suspended{}
		b := batch{host: host.ID}
		var bodies bodyRows
		var foreign bool
		var interrupt *string // why the body is to end, if it does not know that yet; "": it knew before it waited for what this slice goes on from
		if err := s.addSuspension(&b, &bodies, host, sp); err != nil {
			return err
		}
		bodies.queue(&b, false).QueryRow(func(row pgx.Row) error { return row.Scan(&interrupt) })
		b.flush()
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
		if interrupt != nil && *interrupt == "" { // it knew when it waited
			var still batch
			queueBelowFirst(&still, sp.ID)
			if err := still.send(ctx, tx); err != nil {
				return err
			}
		} else if interrupt != nil {
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

// addSuspension adds what a suspension writes.
func (s *Store) addSuspension(b *batch, bodies *bodyRows, host Host, sp Suspension) error {
	var waitingOn *uuid.UUID
	if len(sp.Calls) > 0 {
		waitingOn = &sp.Calls[0].ID
	}
	snapshot := sp.Snapshot.Encode()
	state, err := json.Marshal(waitState{TaskName: sp.Task, TaskRunID: sp.TaskRun, Sequence: sp.Snapshot.Sequence, Waits: sp.Waits,
		SnapshotBytes: len(snapshot), MemoryBytes: sp.Snapshot.Size})
	if err != nil {
		return err
	}
	bodies.ids, bodies.next, bodies.on = append(bodies.ids, sp.ID), append(bodies.next, int64(sp.Snapshot.Sequence)), append(bodies.on, waitingOn)
	bodies.engines, bodies.states = append(bodies.engines, sp.Snapshot.Engine.String()), append(bodies.states, string(state))
	bodies.sequences, bodies.fences = append(bodies.sequences, sp.Sequence), append(bodies.fences, sp.fence())
	bodies.attempts, bodies.held = append(bodies.attempts, sp.attempt), append(bodies.held, sp.Held)
	if err := s.settle(b, host, sp.ID, sp.TaskRun, sp.Slice, false); err != nil {
		return err
	}
	if len(sp.Cancelled) > 0 {
		b.then(`/* Suspend: cancelled */
			update public.stack_runs set status = 'cancelled', delivered = true, claimed_by = null,
				ended_at = now(), updated_at = now()
			where status not in ('completed', 'failed', 'cancelled') and id = any(array( -- of the thousands that it may have made
				select s.id from unnest(@calls::bigint[]) call, lateral (
					select id from public.stack_runs where parent_stack_run_id = @id and call_id = call offset 0) s))`,
			namedArgs{"id": sp.ID, "calls": sp.Cancelled})
	}
	frames := &b.rows.frames
	if sp.Snapshot.Increment() {
		frames = &b.rows.increment
	}
	frames.add(sp.ID, sp.Snapshot.Header, snapshot)
	for _, c := range sp.Calls {
		if err := s.queueChild(b, host, sp, c); err != nil {
			return err
		}
	}
	b.rows.waiting.ids, b.rows.waiting.on = append(b.rows.waiting.ids, sp.TaskRun), append(b.rows.waiting.on, waitingOn)
	return nil
}

func (s *Store) queueChild(b *batch, host Host, sp Suspension, c Child) error {
	args, err := c.args()
	if err != nil {
		return err
	}
	status, claimed, runStatus := StatusProcessing, true, StatusProcessing
	var due *float64
	switch {
	case c.sleeps():
		seconds := c.After.Seconds()
		status, claimed, runStatus, due = StatusSleeping, false, StatusQueued, &seconds
	case c.Left, !host.takes():
		status, claimed, runStatus = StatusPending, false, StatusQueued
	}
	if c.TaskRun != uuid.Nil {
		b.rows.runs = append(b.rows.runs, taskRun{ID: c.TaskRun, Parent: sp.TaskRun, Task: c.Task, Input: c.Input, Status: runStatus, Caller: sp.Caller,
			Priority: c.Priority, At: nullTime(c.At), After: due, Left: secondsUntil(c.Deadline)})
	}
	r := &b.rows.calls
	r.ids, r.runs, r.parents, r.children = append(r.ids, c.ID), append(r.runs, sp.TaskRun), append(r.parents, sp.ID), append(r.children, c.TaskRun)
	r.services, r.methods = append(r.services, text(c.Call.Service)), append(r.methods, text(c.Call.Method()))
	r.args, r.statuses, r.claimed = append(r.args, string(args)), append(r.statuses, status), append(r.claimed, claimed)
	r.numbers, r.at, r.due = append(r.numbers, int64(c.CallID)), append(r.at, nullTime(c.At)), append(r.due, due)
	r.left, r.keys, r.priorities = append(r.left, secondsUntil(c.Deadline)), append(r.keys, c.key(sp.Task)), append(r.priorities, int32(c.Priority))
	r.turns = append(r.turns, (time.Duration(c.Turn) * turnEvery).Seconds())
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
