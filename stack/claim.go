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
	"github.com/amberhost/amber/vm"
)

// Body is what a host needs to run the next slice of a task body.
type Body struct {
	ID      uuid.UUID // its stack_run
	TaskRun uuid.UUID // the run it is the body of
	Parent  uuid.UUID // the body that called it; uuid.Nil for a run's own
	CallID  uint32    // its number within that body
	Task    string
	Caller  Caller
	Held    bool      // the row is processing and ours
	Depth   int       // how many others it is nested in
	Root    uuid.UUID // the run of the first of them, or its own

	Priority  int
	Deadline  time.Time      // when its time is over, by this host's clock; zero: never
	Interrupt string         // why it is to end; "" if it is not
	Policy    service.Policy // of its caller, if it fails
	Tries     int            // that failed before this one
	claimedAt time.Time      // or started
	ready     time.Time      // since when it could go on; zero: claimedAt
	Trace     string         // the header traceparent with which it was started, if it is a run's own
	attempt   int            // how often it was claimed or retried by then
	codeRow   string         // which row has the code that it begins with; "": not known
	found     bool           // the run was there, under its key: there is nothing to run

	// A body that has not been suspended starts from its code and input.
	Code  string
	Input json.RawMessage

	// One that has goes on from its snapshot.
	Sequence int64        // snapshots taken
	First    int64        // Sequence when it began
	Snapshot *vm.Snapshot // nil if it has to be read when the body's turn has come
	stored   int64        // bytes that it has in the tables
	Replies  []Reply      // committed and not yet seen
}

// begins reports whether the body starts from its code and input.
func (b *Body) begins() bool { return b.Sequence == b.First }

// Claim is a stack_run that this host has just taken. [Store.Open] reads the rest.
type Claim struct {
	ID   uuid.UUID
	Body *Body // nil for a call
	Call CallClaim
	row  claimed
	free time.Duration // how long it was
}

// Task reports whether the row asks for a task.
func (c Claim) Task() bool { return c.row.ServiceName == serviceTasks }

// group is whom the row takes turns with: the calls of one run.
func (c Claim) group() uuid.UUID {
	if c.row.ParentTaskRunID != nil {
		return *c.row.ParentTaskRunID
	}
	return c.ID
}

// ClaimKind says which rows are wanted.
type ClaimKind int

// The kinds of rows.
const (
	ClaimAll ClaimKind = iota
	ClaimBodies
	ClaimCalls    // of services
	ClaimSuspects // bodies that are none of the others, see crashes.go
)

func (k ClaimKind) sql() string {
	return [...]string{"not " + suspectSQL, "service_name = 'tasks' and not " + suspectSQL, "service_name <> 'tasks'", suspectSQL}[k]
}

// errStuck marks a row that cannot go on until somebody does something about it.
var errStuck = errors.New("stuck")

// CallClaim is a call of a service whose answer is owed to its caller's body.
type CallClaim struct {
	ID, Parent, TaskRun uuid.UUID
	Root                uuid.UUID // the run that TaskRun is nested in, or TaskRun
	CallID              uint32
	Call                service.Call
	Task                string // that made the call
	Caller              Caller
	Key                 string         // what the service sees as its idempotency key; "": as if it was just made
	Tries               int            // that failed before this one
	Deadline            time.Time      // when its time is over, by this host's clock; zero: never
	Refused             *service.Error // the answer, if the call was refused when it was made
}

// claimed is the part of a claimed row that decides what it is.
type claimed struct {
	ID               uuid.UUID
	ParentTaskRunID  *uuid.UUID
	ParentStackRunID *uuid.UUID
	ChildTaskRunID   *uuid.UUID
	ServiceName      string
	MethodName       string
	Args             json.RawMessage
	Sequence         int64
	FirstSequence    int64
	CallID           *int64
	Tries            int
	Priority         int
	Left             *float64 // seconds until its time is over
	Interrupt        *string
	IdempotencyKey   *string
	Attempt          int
}

// freed is a row that was claimed just now.
type freed struct {
	claimed
	Free float64 // seconds for which any host might have claimed it
}

// claimedColumns are those of a claimed row s.
const claimedColumns = `s.id, s.parent_task_run_id, s.parent_stack_run_id, s.child_task_run_id, s.service_name, s.method_name,
	s.args, s.sequence, s.first_sequence, s.call_id, s.tries, s.priority,
	extract(epoch from s.deadline_at - clock_timestamp())::float8 as left, s.interrupt, s.idempotency_key, s.attempt`

// deadline is when the row's time is over, by this host's clock.
func (r claimed) deadline() time.Time {
	if r.Left == nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(*r.Left * float64(time.Second)))
}

// Claim takes up to limit rows of a kind that any host may run or resume, oldest
// first, of those that this one can: it has their engine, the keys they are sealed
// with, and as much memory as they take. One whose lease has run out gets none.
// After an error it is not known what was taken: see [Store.GiveBack].
func (s *Store) Claim(ctx context.Context, host Host, kind ClaimKind, limit int) ([]Claim, error) {
	return s.claim(ctx, host, kind.sql(), namedArgs{"limit": limit})
}

// ClaimRow takes that row if host may claim it; else it returns none.
func (s *Store) ClaimRow(ctx context.Context, host Host, id uuid.UUID) ([]Claim, error) {
	return s.claim(ctx, host, "id = @id and not "+suspectSQL, namedArgs{"limit": 1, "id": id})
}

// claim takes free rows of which the SQL condition only holds.
func (s *Store) claim(ctx context.Context, host Host, only string, args namedArgs) ([]Claim, error) {
	args["engines"], args["host"], args["keys"], args["memory"] = host.Engines, host.ID, s.ring.IDs(), host.memory()
	rows, err := s.pool.Query(ctx, `/* Claim */
		with free as (
			select id, updated_at from public.stack_runs s
			where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is null
				and (engine is null or engine = any(@engines)) and `+only+` and `+opensSQL+` and `+fitsSQL+` and `+mayGoOnSQL+`
				and exists (select from amber.hosts h where h.id = @host and h.expires_at > now())
			order by priority desc, turn_at, created_at
			limit @limit for update skip locked
		)
		update public.stack_runs s set status = 'processing', claimed_by = @host, attempt = s.attempt + 1, stuck_key = null,
			started_at = coalesce(s.started_at, now()), updated_at = now()
		from free where s.id = free.id
		returning `+claimedColumns+`, extract(epoch from clock_timestamp() - free.updated_at)::float8 as free`, args)
	if err != nil {
		return nil, fmt.Errorf("claim stack runs: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[freed])
	if err != nil {
		return nil, fmt.Errorf("claim stack runs: %w", err)
	}
	claims := make([]Claim, len(found))
	for i, r := range found {
		claims[i] = Claim{ID: r.ID, row: r.claimed, free: max(0, time.Duration(r.Free*float64(time.Second)))}
	}
	return claims, nil
}
