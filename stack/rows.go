package stack

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/vm"
)

// Rows that a transaction writes, by the statement that writes them: one for all of
// a kind, however many they are and whomever they belong to. So a body with a hundred
// calls, or a hundred bodies that are committed together, cost Postgres a statement's
// beginning and end once. A column is an array.
//
// What is updated is named twice, by any(@ids) and by what it is joined with: to a
// planner that sees a small table, and plans once, a join alone may be one that reads
// all of it.

// rows are those that a batch has yet to queue.
type rows struct {
	ends      endRows
	then      []statement // after the ends, before what else there is
	logs      logRows
	bytes     byteRows
	frames    frameRows // snapshots that stand alone
	increment frameRows
	runs      runRows
	calls     callRows
	ended     endedRuns
	waiting   waitingRuns
}

type statement struct {
	sql  string
	args namedArgs
}

// then queues a statement for after the rows have ended that are to end.
func (b *batch) then(sql string, args namedArgs) {
	b.rows.then = append(b.rows.then, statement{sql, args})
}

// flush queues what the rows so far are written by, in the order in which one needs
// the other: callers before their calls, runs before what is a part of them.
func (b *batch) flush() {
	r := b.rows
	b.rows = rows{}
	r.ends.queue(b)
	for _, s := range r.then {
		b.queueThen(s.sql, s.args)
	}
	r.logs.queue(b)
	r.bytes.queue(b)
	r.frames.queueFrames(b)
	r.increment.queueIncrements(b)
	r.runs.queue(b)
	r.calls.queue(b)
	r.ended.queue(b)
	r.waiting.queue(b)
}

func (b *batch) queueThen(sql string, args namedArgs) { b.Queue(sql, args) }

// waitState is what vm_state shows of a body that waits.
type waitState struct {
	TaskName      string    `json:"taskName"`
	TaskRunID     uuid.UUID `json:"taskRunId"`
	Sequence      uint64    `json:"sequence"`
	Waits         int       `json:"waits"`
	SnapshotBytes int       `json:"snapshotBytes"`
	MemoryBytes   uint32    `json:"memoryBytes"`
}

// bodyRows are bodies that wait from now on, each fenced. They are the first that a
// transaction locks.
type bodyRows struct {
	ids               []uuid.UUID
	next              []int64 // sequences
	on                []*uuid.UUID
	engines, states   []string
	sequences, fences []int64
	attempts          []*int
	held              []bool
}

// queue has the transaction end if a body is not as it must be, and, if it is to be
// committed at once, if one is to end and does not know it, or knew it before it waited.
// The statement gives why one is to end, "" if it knew.
func (r *bodyRows) queue(b *batch, atOnce bool) *pgx.QueuedQuery {
	return b.Queue(`/* Suspend: bodies */
		with w as (
			select * from unnest(@ids::uuid[], @next::bigint[], @on::uuid[], @engines::text[], @states::text[], @sequences::bigint[], @fences::bigint[], @attempts::int[],
				@held::bool[]) as w (id, next, waiting_on, engine, state, sequence, fence, attempt, held)
		), body as (
			update public.stack_runs s set status = 'suspended_waiting_child', claimed_by = null, sequence = w.next,
				waiting_on_stack_run_id = coalesce(w.waiting_on, s.waiting_on_stack_run_id), engine = w.engine,
				vm_state = w.state::jsonb, stuck_reason = null, updated_at = now()
			from w where s.id = any(@ids) and s.id = w.id and s.sequence = w.sequence and s.attempt = coalesce(w.attempt, s.attempt) and (
				(s.status = 'processing' and s.claimed_by = @host)
				or (s.status = 'suspended_waiting_child' and s.sequence = w.fence))
			returning case when interrupted_at is null then interrupt when not w.held then '' end as interrupt
		) select case when count(*) <> cardinality(@ids) then amber.stop('AMB01') when @at_once and max(interrupt) is not null then amber.stop('AMB02') else max(interrupt) end from body`,
		namedArgs{"ids": r.ids, "next": r.next, "on": r.on, "engines": r.engines, "states": r.states, "sequences": r.sequences, "fences": r.fences,
			"attempts": r.attempts, "held": r.held, "host": b.host, "at_once": atOnce})
}

// endRows are rows that end, each fenced.
type endRows struct {
	ids               []uuid.UUID
	statuses          []string
	results, errors   []*string
	delivered, forced []bool
	sequences, fences []int64
	interrupts        []string
	attempts          []*int
}

func (r *endRows) queue(b *batch) {
	if len(r.ids) == 0 {
		return
	}
	b.Queue(`/* end: rows */
		with e as (
			select * from unnest(@ids::uuid[], @statuses::text[], @results::text[], @errors::text[], @delivered::bool[], @sequences::bigint[],
				@fences::bigint[], @interrupts::text[], @forced::bool[], @attempts::int[])
				as e (id, status, result, error, delivered, sequence, fence, interrupt, forced, attempt)
		), row as (
			update public.stack_runs s set status = e.status, result = e.result::jsonb, error = e.error::jsonb, delivered = e.delivered,
				claimed_by = null, waiting_on_stack_run_id = null, stuck_reason = null, ended_at = now(), updated_at = now()
			from e where s.id = any(@ids) and s.id = e.id and s.sequence = e.sequence and s.attempt = coalesce(e.attempt, s.attempt) and coalesce(s.interrupt, '') = e.interrupt and (
				(s.status = 'processing' and s.claimed_by = @host)
				or (s.status = 'sleeping' and s.due_at <= now())
				or (s.status = 'suspended_waiting_child' and s.sequence = e.fence)
				or (e.forced and s.status not in ('completed', 'failed', 'cancelled')))
			returning 1
		) select case when count(*) <> cardinality(@ids) then amber.stop('AMB01') end from row`,
		namedArgs{"ids": r.ids, "statuses": r.statuses, "results": r.results, "errors": r.errors, "delivered": r.delivered, "sequences": r.sequences,
			"fences": r.fences, "interrupts": r.interrupts, "forced": r.forced, "attempts": r.attempts, "host": b.host})
}

// endedRuns are task_runs whose bodies end.
type endedRuns struct {
	ids             []uuid.UUID
	statuses        []string
	results, errors []*string
}

func (r *endedRuns) queue(b *batch) {
	if len(r.ids) == 0 {
		return
	}
	b.Queue(`/* end: runs */
		update public.task_runs t set status = e.status, result = e.result::jsonb, error = e.error::jsonb,
			waiting_on_stack_run_id = null, stuck_reason = null, ended_at = now(), updated_at = now(),
			logs = (select jsonb_agg(jsonb_build_object('at', at, 'level', level, 'message', message) order by id)
				from (select * from amber.logs where task_run_id = t.id order by id limit @logs) l)
		from unnest(@ids::uuid[], @statuses::text[], @results::text[], @errors::text[]) as e (id, status, result, error)
		where t.id = any(@ids) and t.id = e.id and t.status not in ('completed', 'failed', 'cancelled')`,
		namedArgs{"ids": r.ids, "statuses": r.statuses, "results": r.results, "errors": r.errors, "logs": maxRunLogs})
}

// waitingRuns are task_runs whose bodies wait.
type waitingRuns struct {
	ids []uuid.UUID
	on  []*uuid.UUID // the first of the calls that the last slice made
}

func (r *waitingRuns) queue(b *batch) {
	if len(r.ids) == 0 {
		return
	}
	b.Queue(`/* Suspend: runs */
		update public.task_runs t set status = 'suspended', waiting_on_stack_run_id = coalesce(w.waiting_on, t.waiting_on_stack_run_id),
			stuck_reason = null, suspended_at = coalesce(t.suspended_at, now()), resumed_at = case when t.suspended_at is null then null else now() end,
			updated_at = now()
		from unnest(@ids::uuid[], @on::uuid[]) as w (id, waiting_on)
		where t.id = any(@ids) and t.id = w.id and t.status not in ('completed', 'failed', 'cancelled')`,
		namedArgs{"ids": r.ids, "on": r.on})
}

// logRows are console lines, in their order.
type logRows struct {
	run, body      []uuid.UUID
	at             []time.Time
	level, message []string
}

func (r *logRows) add(run, body uuid.UUID, logs []vm.Log) {
	for _, l := range logs {
		r.run, r.body = append(r.run, run), append(r.body, body)
		r.at, r.level, r.message = append(r.at, l.At), append(r.level, l.Level), append(r.message, text(l.Message))
	}
}

func (r *logRows) queue(b *batch) {
	if len(r.run) == 0 {
		return
	}
	b.Queue(`/* logs */
		insert into amber.logs (task_run_id, stack_run_id, at, level, message)
		select u.run, u.body, u.at, u.level, u.message
		from unnest(@run::uuid[], @body::uuid[], @at::timestamptz[], @level::text[], @message::text[]) with ordinality as u (run, body, at, level, message, n)
		order by u.n`,
		namedArgs{"run": r.run, "body": r.body, "at": r.at, "level": r.level, "message": r.message})
}

// byteRows are exact bytes of calls and replies, encrypted.
type byteRows struct {
	ids        []uuid.UUID
	kinds, key []string
	data       [][]byte
}

func (r *byteRows) queue(b *batch) {
	if len(r.ids) == 0 {
		return
	}
	b.Queue(`/* bytes */
		insert into amber.replies (stack_run_id, kind, key_id, data)
		select * from unnest(@ids::uuid[], @kinds::text[], @keys::text[], @data::bytea[])
		on conflict (stack_run_id, kind) do update set key_id = excluded.key_id, data = excluded.data, created_at = now()`,
		namedArgs{"ids": r.ids, "kinds": r.kinds, "keys": r.key, "data": r.data})
}

// frameRows are snapshots.
type frameRows struct {
	ids                 []uuid.UUID
	version, codec      []int16
	engine, image, data [][]byte
	sequence, size      []int64
	key                 []string
}

func (r *frameRows) add(id uuid.UUID, h vm.Header, data []byte) {
	r.ids, r.version, r.codec = append(r.ids, id), append(r.version, int16(h.Version)), append(r.codec, int16(h.Codec))
	r.engine, r.image, r.data = append(r.engine, h.Engine[:]), append(r.image, h.Image[:]), append(r.data, data)
	r.sequence, r.size, r.key = append(r.sequence, int64(h.Sequence)), append(r.size, int64(h.Size)), append(r.key, h.KeyID)
}

func (r *frameRows) args() namedArgs {
	return namedArgs{"ids": r.ids, "version": r.version, "codec": r.codec, "engine": r.engine, "image": r.image, "sequence": r.sequence,
		"keys": r.key, "size": r.size, "data": r.data}
}

const frameRowsSQL = ` (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
		select * from unnest(@ids::uuid[], @version::int2[], @codec::int2[], @engine::bytea[], @image::bytea[], @sequence::bigint[], @keys::text[],
			@size::bigint[], @data::bytea[])`

// queueFrames keeps key frames, each in place of all that the body had before it.
func (r *frameRows) queueFrames(b *batch) {
	if len(r.ids) == 0 {
		return
	}
	b.Queue(`/* Suspend: key frames */
		with based as (delete from amber.increments where stack_run_id = any(@ids::uuid[]))
		insert into amber.snapshots`+frameRowsSQL+`
		on conflict (stack_run_id) do update set version = excluded.version, codec = excluded.codec,
			engine = excluded.engine, image = excluded.image, sequence = excluded.sequence,
			key_id = excluded.key_id, size = excluded.size, data = excluded.data, updated_at = now()`, r.args())
}

// queueIncrements keeps increments beside those that they are based on.
func (r *frameRows) queueIncrements(b *batch) {
	if len(r.ids) == 0 {
		return
	}
	b.Queue(`/* Suspend: increments */ insert into amber.increments`+frameRowsSQL, r.args())
}

// runRows are new task_runs.
type runRows []taskRun

func (r runRows) queue(b *batch) {
	if len(r) == 0 {
		return
	}
	var (
		ids, parents    []uuid.UUID
		names, statuses []string
		unpublished     []bool
		inputs, claims  []*string
		owners          []*string
		roles, keys     []string
		priorities      []int32
		at              []*time.Time
		after, left     []*float64
		hashes          [][]byte
	)
	for _, t := range r {
		ids, parents, names, statuses = append(ids, t.ID), append(parents, t.Parent), append(names, t.Task), append(statuses, t.Status)
		unpublished, inputs, claims = append(unpublished, t.Unpublished), append(inputs, texts(t.Input)), append(claims, texts(t.Caller.Claims))
		owners, roles, keys = append(owners, nullText(t.Caller.Owner)), append(roles, t.Caller.Role), append(keys, t.Key)
		priorities, at, after = append(priorities, int32(t.Priority)), append(at, t.At), append(after, t.After)
		left, hashes = append(left, t.Left), append(hashes, t.Hash)
	}
	b.Queue(`/* new runs */
		insert into public.task_runs (id, task_function_id, task_name, input, status, parent_run_id, owner, caller_role,
			caller_claims, started_at, priority, scheduled_for, deadline_at, idempotency_key, idempotency_hash)
		select r.id, (select f.id from public.task_functions f where f.name = r.task and not r.unpublished), r.task, r.input::jsonb, r.status,
			nullif(r.parent, @none), r.owner::uuid, nullif(r.role, ''), r.claims::jsonb, case when r.status = 'processing' then now() end, r.priority,
			coalesce(r.at, clock_timestamp() + make_interval(secs => r.after)), clock_timestamp() + make_interval(secs => r.time),
			nullif(r.key, ''), case when r.key <> '' then r.hash end
		from unnest(@ids::uuid[], @parents::uuid[], @names::text[], @statuses::text[], @unpublished::bool[], @inputs::text[], @claims::text[], @owners::text[],
			@roles::text[], @keys::text[], @priorities::int[], @at::timestamptz[], @after::float8[], @left::float8[], @hashes::bytea[])
			as r (id, parent, task, status, unpublished, input, claims, owner, role, key, priority, at, after, time, hash)`,
		namedArgs{"ids": ids, "parents": parents, "names": names, "statuses": statuses, "unpublished": unpublished, "inputs": inputs, "claims": claims,
			"owners": owners, "roles": roles, "keys": keys, "priorities": priorities, "at": at, "after": after, "left": left, "hashes": hashes, "none": uuid.Nil})
}

// callRows are new calls of bodies.
type callRows struct {
	ids, runs, parents, children      []uuid.UUID
	services, methods, args, statuses []string
	claimed                           []bool
	numbers                           []int64
	at                                []*time.Time
	due, left                         []*float64
	keys                              []string
	priorities                        []int32
	turns                             []float64
}

func (r *callRows) queue(b *batch) {
	if len(r.ids) == 0 {
		return
	}
	b.Queue(`/* Suspend: calls */
		insert into public.stack_runs (id, parent_task_run_id, parent_stack_run_id, parent_run_id, child_task_run_id,
			service_name, module_name, method_name, args, status, claimed_by, call_id, due_at, started_at, idempotency_key,
			priority, deadline_at, turn_at)
		select c.id, c.run, c.parent, c.run, nullif(c.child, @none), c.service, c.service, c.method, c.args::jsonb, c.status,
			case when c.claimed then @host::uuid end, c.number, coalesce(c.at, clock_timestamp() + make_interval(secs => c.due)),
			case when c.status <> 'pending' then now() end, c.key, c.priority, clock_timestamp() + make_interval(secs => c.time),
			now() + make_interval(secs => c.turn)
		from unnest(@ids::uuid[], @runs::uuid[], @parents::uuid[], @children::uuid[], @services::text[], @methods::text[], @args::text[], @statuses::text[],
			@claimed::bool[], @numbers::bigint[], @at::timestamptz[], @due::float8[], @left::float8[], @keys::text[], @priorities::int[], @turns::float8[])
			as c (id, run, parent, child, service, method, args, status, claimed, number, at, due, time, key, priority, turn)`,
		namedArgs{"ids": r.ids, "runs": r.runs, "parents": r.parents, "children": r.children, "services": r.services, "methods": r.methods,
			"args": r.args, "statuses": r.statuses, "claimed": r.claimed, "numbers": r.numbers, "at": r.at, "due": r.due, "left": r.left,
			"keys": r.keys, "priorities": r.priorities, "turns": r.turns, "host": b.host, "none": uuid.Nil})
}

// texts is JSON as an array of texts has it: NULL for none.
func texts(raw json.RawMessage) *string {
	if raw == nil {
		return nil
	}
	return nullText(string(raw))
}

func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
