package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// Open reads what a claimed row needs to run. Its error wraps errStuck if reading
// it again would not help.
func (s *Store) Open(ctx context.Context, host Host, c *Claim) error {
	opened, err := s.open(ctx, host, c.row)
	c.Body, c.Call = opened.Body, opened.Call
	return err
}

// open loads what a claimed row needs to run.
func (s *Store) open(ctx context.Context, host Host, r claimed) (Claim, error) {
	req, err := s.request(ctx, host, r)
	if err != nil {
		return Claim{}, err
	}
	call := req.Call
	if req.Refused != nil {
		c, err := s.openCall(ctx, r, req)
		c.Call.Refused = req.Refused
		return c, err
	}
	if call.Service != serviceTasks {
		return s.openCall(ctx, r, req)
	}
	name, input, refused := executeArgs(call)
	if refused != nil {
		return s.openCall(ctx, r, req) // which answers with the refusal
	}
	if r.ChildTaskRunID == nil {
		run, err := s.bodyRun(ctx, host, r, name, input)
		if err != nil {
			return Claim{}, err
		}
		r.ChildTaskRunID = &run
	}
	body, err := s.load(ctx, r, name, input)
	if err != nil {
		return Claim{}, err
	}
	body.Code, body.Depth, body.Root, body.Trace = req.Code, req.Depth, body.TaskRun, req.Trace
	if o, err := parseOptions(call.Options, call.Service); err == nil { // else it was refused
		body.Policy = o.policy(taskPolicy)
	}
	if req.Root != nil {
		body.Root = *req.Root
	}
	return Claim{Body: body}, nil
}

// openCall loads on whose behalf a call is made.
func (s *Store) openCall(ctx context.Context, r claimed, req request) (Claim, error) {
	c := CallClaim{ID: r.ID, Parent: orNil(r.ParentStackRunID), TaskRun: orNil(r.ParentTaskRunID), Call: req.Call,
		Tries: r.Tries, Deadline: r.deadline()}
	if c.Root = c.TaskRun; req.Root != nil {
		c.Root = *req.Root
	}
	if r.CallID != nil {
		c.CallID = uint32(*r.CallID)
	}
	if r.IdempotencyKey != nil {
		c.Key = *r.IdempotencyKey
	}
	err := s.pool.QueryRow(ctx, `/* openCall */
		select task_name, coalesce(owner::text, ''), coalesce(caller_role, ''), caller_claims
		from public.task_runs where id = @run`,
		namedArgs{"run": c.TaskRun}).Scan(&c.Task, &c.Caller.Owner, &c.Caller.Role, &c.Caller.Claims)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) { // no run: somebody's row of its own
		return Claim{}, fmt.Errorf("load caller: %w", err)
	}
	return Claim{Call: c}, nil
}

func orNil(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// request is what a row was asked: its exact bytes, or, for a row that somebody
// else inserted, its public columns.
func (s *Store) request(ctx context.Context, host Host, r claimed) (request, error) {
	req, exact, err := s.asked(ctx, r)
	if err != nil || exact || req.Service != serviceTasks || req.Method() != "execute" {
		return req, err
	}
	return s.broughtCode(ctx, host, r.ID, req)
}

// asked is request without what came beside the columns. exact is false if it
// was read from them.
func (s *Store) asked(ctx context.Context, r claimed) (req request, exact bool, err error) {
	var keyID string
	var sealed []byte
	err = s.pool.QueryRow(ctx, `/* request */ select key_id, data from amber.replies where stack_run_id = @id and kind = 'request'`,
		namedArgs{"id": r.ID}).Scan(&keyID, &sealed)
	if err == nil {
		return req, true, s.openBytes(r.ID, kindRequest, keyID, sealed, &req)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return req, false, fmt.Errorf("load request: %w", err)
	}
	var args []json.RawMessage
	if json.Unmarshal(r.Args, &args) != nil && r.Args != nil {
		args = []json.RawMessage{r.Args}
	}
	req.Call = service.Call{Service: r.ServiceName, Steps: service.Path(r.MethodName, args)}
	return req, false, nil
}

// vmState is what clients of the original put into vm_state when they ask for
// a task: the one generation in these words, the next in those.
type vmState struct {
	Code   string          `json:"task_code"`
	Name   string          `json:"task_name"`
	Input  json.RawMessage `json:"input"`
	Code2  string          `json:"taskCode"`
	Name2  string          `json:"taskName"`
	Input2 json.RawMessage `json:"taskInput"`
}

// broughtCode completes the request of somebody's row for a task with the code
// that came with it, which counts if no task of that name is published. It is
// sealed before it runs: suspending the body overwrites vm_state.
func (s *Store) broughtCode(ctx context.Context, host Host, id uuid.UUID, req request) (request, error) {
	var raw json.RawMessage
	err := s.pool.QueryRow(ctx, `/* broughtCode: look */ select vm_state from public.stack_runs where id = @id`, namedArgs{"id": id}).Scan(&raw)
	if err != nil {
		return req, fmt.Errorf("load code: %w", lostIfGone(err))
	}
	var state vmState
	if raw == nil || json.Unmarshal(raw, &state) != nil || state.Code+state.Code2 == "" {
		return req, nil
	}
	name, input, refused := executeArgs(req.Call)
	if refused != nil {
		name, input = cmp.Or(state.Name, state.Name2), state.Input
		if input == nil {
			input = state.Input2
		}
		if input == nil {
			input = json.RawMessage("null")
		}
	}
	if name == "" {
		return req, nil // which is refused
	}
	var unpublished *service.Error
	if _, err := s.Task(ctx, name); errors.As(err, &unpublished) {
		req.Code = cmp.Or(state.Code, state.Code2)
	} else if err != nil {
		return req, err
	}
	if req.Call, err = executeCall(name, input); err != nil {
		return req, err
	}
	return req, s.tx(ctx, "keep request", func(tx pgx.Tx) error {
		var b batch
		b.fenced(`/* broughtCode: hold */ update public.stack_runs set updated_at = now() where id = @id and status = 'processing' and claimed_by = @host`,
			namedArgs{"id": id, "host": host.ID})
		if err := s.putBytes(&b, id, kindRequest, req); err != nil {
			return err
		}
		return b.send(ctx, tx)
	})
}

// bodyRun gives the body of a row that somebody else inserted its task_run: the
// run it names as its own if that has no body yet, else a new one. ErrClaimLost if
// host does not hold the row any more: somebody else may have given it one.
func (s *Store) bodyRun(ctx context.Context, host Host, r claimed, task string, input json.RawMessage) (run uuid.UUID, err error) {
	err = s.tx(ctx, "adopt stack run", func(tx pgx.Tx) error {
		run = uuid.Nil
		if r.ParentTaskRunID != nil && r.ParentStackRunID == nil {
			err := tx.QueryRow(ctx, `/* bodyRun: adopt */
				update public.task_runs t set status = 'processing', started_at = coalesce(t.started_at, now()), updated_at = now()
				where t.id = @run and t.status in ('queued', 'processing')
					and not exists (select from public.stack_runs s where s.child_task_run_id = t.id)
				returning t.id`, namedArgs{"run": *r.ParentTaskRunID}).Scan(&run)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
		}
		var b batch
		if run == uuid.Nil {
			run = newID()
			b.rows.runs = append(b.rows.runs, taskRun{ID: run, Parent: orNil(r.ParentTaskRunID), Task: task, Input: input, Status: StatusProcessing})
			b.flush()
		}
		b.fenced(`/* bodyRun: link */
			update public.stack_runs set child_task_run_id = @run, updated_at = now()
			where id = @id and child_task_run_id is null and status = 'processing' and claimed_by = @host`,
			namedArgs{"run": run, "id": r.ID, "host": host.ID})
		return b.send(ctx, tx)
	})
	return run, err
}

// load reads a body's run, and its replies if it has been suspended.
func (s *Store) load(ctx context.Context, r claimed, task string, input json.RawMessage) (*Body, error) {
	body := &Body{ID: r.ID, TaskRun: *r.ChildTaskRunID, Parent: orNil(r.ParentStackRunID), Task: task, Input: input,
		Held: true, Sequence: r.Sequence, First: r.FirstSequence, Tries: r.Tries, Priority: r.Priority, Deadline: r.deadline(), claimedAt: time.Now(), attempt: r.Attempt}
	if r.Interrupt != nil {
		body.Interrupt = *r.Interrupt
	}
	if r.CallID != nil {
		body.CallID = uint32(*r.CallID)
	}
	err := s.pool.QueryRow(ctx, `/* load */
		update public.task_runs set status = case when status = 'queued' then 'processing' else status end,
			started_at = coalesce(started_at, now()), updated_at = now()
		where id = @run and status not in ('completed', 'failed', 'cancelled')
		returning coalesce(owner::text, ''), coalesce(caller_role, ''), caller_claims,
			coalesce((select sum(octet_length(data)) from amber.snapshots where stack_run_id = @body), 0)::bigint`,
		namedArgs{"run": body.TaskRun, "body": body.ID}).Scan(&body.Caller.Owner, &body.Caller.Role, &body.Caller.Claims, &body.stored)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, s.runEnded(ctx, body)
	}
	if err != nil {
		return nil, fmt.Errorf("load task run: %w", err)
	}
	if body.begins() {
		return body, nil
	}
	rows, err := s.pool.Query(ctx, repliesSQL, namedArgs{"body": body.ID, "most": pieceBytes})
	if err != nil {
		return nil, fmt.Errorf("load replies: %w", err)
	}
	if body.Replies, err = s.replies(rows); err != nil {
		return nil, fmt.Errorf("load replies: %w", err)
	}
	return body, nil
}

// loadSnapshot reads the snapshot of a body that waits, from its key frame on.
// ErrClaimLost if the body has gone on meanwhile.
func (s *Store) loadSnapshot(ctx context.Context, body *Body) error {
	parts, err := s.pool.Query(ctx, `/* loadSnapshot */
		select data from amber.snapshots where stack_run_id = @id and sequence <= @sequence
			and sequence >= (select sequence from only amber.snapshots where stack_run_id = @id)
		order by sequence`,
		namedArgs{"id": body.ID, "sequence": body.Sequence})
	if err != nil {
		return fmt.Errorf("load snapshot: %w", err)
	}
	chain, err := pgx.CollectRows(parts, pgx.RowTo[[]byte])
	if err != nil {
		return fmt.Errorf("load snapshot: %w", err)
	}
	if len(chain) == 0 {
		return s.snapshotGone(ctx, body)
	}
	if body.Snapshot, err = vm.DecodeSnapshot(chain...); err != nil {
		return fmt.Errorf("%w: load snapshot %d: %w", errStuck, body.Sequence, err)
	}
	if body.Snapshot.Sequence != uint64(body.Sequence) {
		return s.snapshotGone(ctx, body)
	}
	return nil
}

// snapshotGone says why there is no snapshot: the body has gone on meanwhile,
// or it was deleted.
func (s *Store) snapshotGone(ctx context.Context, body *Body) error {
	if err := s.movedOn(ctx, body); err != nil {
		return err
	}
	return fmt.Errorf("%w: its snapshot %d is gone", errStuck, body.Sequence)
}

// runEnded says why there is no run to go on with: the body was cancelled
// meanwhile, or its run is not what it should be.
func (s *Store) runEnded(ctx context.Context, body *Body) error {
	if err := s.movedOn(ctx, body); err != nil {
		return err
	}
	return fmt.Errorf("%w: its task run %s has ended or is gone", errStuck, body.TaskRun)
}

// movedOn is ErrClaimLost if a body is not any more what was read of it: another
// slice of this host went on with it, or it has ended.
func (s *Store) movedOn(ctx context.Context, body *Body) error {
	var moved bool
	err := s.pool.QueryRow(ctx, `/* movedOn */ select not exists (select from public.stack_runs
			where id = @id and sequence = @sequence and status not in ('completed', 'failed', 'cancelled'))`,
		namedArgs{"id": body.ID, "sequence": body.Sequence}).Scan(&moved)
	if err != nil {
		return fmt.Errorf("look at stack run: %w", err)
	}
	if moved {
		return ErrClaimLost
	}
	return nil
}

// Held loads a body that host holds: the one that [Store.Complete] said to resume.
func (s *Store) Held(ctx context.Context, host Host, id uuid.UUID) (*Body, error) {
	rows, err := s.pool.Query(ctx, `/* Held */
		select `+claimedColumns+` from public.stack_runs s where id = @id and status = 'processing' and claimed_by = @host`,
		namedArgs{"id": id, "host": host.ID})
	if err != nil {
		return nil, fmt.Errorf("load held stack run: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[claimed])
	if err != nil {
		return nil, lostIfGone(err)
	}
	c, err := s.open(ctx, host, r)
	if err != nil {
		return nil, err
	}
	if c.Body == nil {
		return nil, fmt.Errorf("%w: stack run %s is not a task body", errStuck, id)
	}
	return c.Body, nil
}
