package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// check is a promise as SQL: its query returns (id, got) of what breaks it.
type check struct {
	promise   int
	name      string
	want, sql string
}

// endedSQL are the statuses that are final.
const endedSQL = `('completed', 'failed', 'cancelled')`

// retriedSQL holds if the transaction of h, in which a row became what it had not
// been, is a retry that says so of this row, and may.
const retriedSQL = `exists (select from fault.history r where r.txid = h.txid and r.row_id = h.row_id and r.source = 'retries'
	and (r.new_status, h.old_status) in (('again', 'failed'), ('again', 'cancelled'), ('open', 'cancelled'),
		('resume', 'failed'), ('anew', 'failed'), ('anew', 'cancelled')))`

// givenAgainSQL holds if the body of h's call goes on, by a retry, from before the
// slice which was given that reply, and which was its last.
const givenAgainSQL = `exists (select from fault.history r where r.txid = h.txid and r.row_id = h.parent and r.source = 'retries' and r.new_status = 'resume')
	and (select e.txid from fault.history e where e.row_id = h.row_id and e.source = 'stack_runs' and e.id < h.id
			and e.new_delivered and not coalesce(e.old_delivered, false) order by e.id desc limit 1)
		= (select e.txid from fault.history e where e.row_id = h.parent and e.source = 'stack_runs' and e.id < h.id
			and e.new_status = 'failed' and e.old_status <> 'failed' order by e.id desc limit 1)`

// checks hold at any time.
var checks = []check{
	{1, "an ended row changed", "the outcome that was committed first", `
		select row_id::text, format('%s: %s (%s) became %s (%s)', source, old_status, left(old_outcome, 8), new_status, left(new_outcome, 8))
		from fault.history h
		where source in ('stack_runs', 'task_runs') and op = 'UPDATE' and old_status in ` + endedSQL + `
			and (new_status, new_outcome) is distinct from (old_status, old_outcome) and not ` + retriedSQL},
	{1, "a row was deleted", "a row that stays, unless its run ended long ago", `
		select row_id::text, format('%s: deleted as %s', source, old_status)
		from fault.history h where source in ('stack_runs', 'task_runs', 'replies') and op = 'DELETE'
			and not exists (select from fault.old o where o.row_id = h.row_id)
			and not (source = 'replies' and old_status = 'reply' and exists (select from fault.history u
				where u.txid = h.txid and u.row_id = h.row_id and u.source = 'stack_runs' and u.old_status in ('failed', 'cancelled')
					and u.new_status not in ` + endedSQL + `))`},
	{1, "a reply was replaced", "the bytes that were committed first", `
		select row_id::text, format('other bytes under the same key %s', new_key)
		from fault.history where source = 'replies' and op = 'UPDATE' and new_status = 'reply'
			and new_key is not distinct from old_key and new_outcome <> old_outcome`},
	{1, "a reply is missing", "its bytes in amber.replies", `
		select s.id::text, format('%s %s.%s without', s.status, s.service_name, s.method_name)
		from public.stack_runs s where s.status in ('completed', 'failed')
			and not exists (select from amber.replies r where r.stack_run_id = s.id and r.kind = 'reply')`},
	{1, "a run and its body ended differently", "the same end", `
		select t.id::text, format('run %s, body %s', t.status, s.status)
		from public.task_runs t join public.stack_runs s on s.child_task_run_id = t.id
		where t.status in ` + endedSQL + ` and s.status in ` + endedSQL + `
			and (t.status <> s.status or t.result is distinct from s.result or t.error is distinct from s.error)`},

	{1, "something is left of a run that is gone", "all of it, or nothing", `
		select o.row_id::text, 'of run ' || o.root from fault.old o where not exists (select from public.task_runs t where t.id = o.root)
			and (exists (select from public.task_runs t where t.id = o.row_id) or exists (select from public.stack_runs s where s.id = o.row_id)
				or exists (select from amber.snapshots n where n.stack_run_id = o.row_id) or exists (select from amber.replies r where r.stack_run_id = o.row_id)
				or exists (select from amber.logs l where l.task_run_id = o.row_id) or exists (select from amber.attempts a where a.stack_run_id = o.row_id)
				or exists (select from amber.failures f where f.stack_run_id = o.row_id))`},

	{2, "a reply can be observed again", "delivered, once and for all", `
		select row_id::text, 'delivered became false' from fault.history h
		where source = 'stack_runs' and op = 'UPDATE' and old_delivered and not new_delivered
			and not ` + retriedSQL + ` and not (` + givenAgainSQL + `)`},
	{2, "a reply was marked as seen by nobody", "a commit of its caller in the same transaction", `
		select h.row_id::text, format('delivered in transaction %s, which did nothing with body %s', h.txid, h.parent)
		from fault.history h
		where h.source = 'stack_runs' and h.op = 'UPDATE' and h.new_delivered and not h.old_delivered and h.parent is not null
			and not exists (select from fault.history p where p.txid = h.txid and p.row_id = h.parent and p.source = 'stack_runs'
				and (p.new_sequence > p.old_sequence or p.new_status in ` + endedSQL + ` and p.old_status not in ` + endedSQL + `))`},
	{2, "an await was observed twice", "one line for it, in each execution", `
		select format('run %s, %s', task_run_id, split_part(message, ' ', 1)), string_agg(left(message, 200), ' and ' order by id)
		from amber.logs l where message like '@%' and not exists ( -- written once more by a slice that was retried
			select from amber.attempts a join public.stack_runs s on s.id = a.stack_run_id
			where s.child_task_run_id = l.task_run_id and a.retry is not null and l.id > a.after_line and l.id <= a.last_line)
		group by task_run_id, split_part(message, ' ', 1)
		having count(*) > 1 and count(*) > (select 1 + coalesce(max(fault.executions(id)), 0) from public.stack_runs where child_task_run_id = task_run_id)`},

	{3, "a sequence number jumped", "one more for each suspension", `
		select row_id::text, format('%s became %s', old_sequence, new_sequence) from fault.history
		where source = 'stack_runs' and op = 'UPDATE' and new_sequence not in (old_sequence, old_sequence + 1)`},
	{3, "a suspension that nobody could commit", "a body that was held, or that waited", `
		select row_id::text, format('%s (held by %s) became %s', old_status, coalesce(old_holder::text, 'nobody'), new_status)
		from fault.history h
		where source = 'stack_runs' and op = 'UPDATE' and new_sequence <> old_sequence and not ` + retriedSQL + `
			and not ((new_status = 'suspended_waiting_child' or new_status = 'sleeping' and new_tries = old_tries + 1)
			and (old_status = 'processing' and old_holder is not null or old_status = 'suspended_waiting_child'))`},
	{3, "a snapshot was committed twice", "each number once", `
		select row_id::text, format('%s commits of snapshot %s', count(*), new_sequence) from fault.history
		where source = 'stack_runs' and op = 'UPDATE' and new_sequence <> old_sequence
		group by row_id, new_sequence having count(*) > 1`},
	{3, "a snapshot without its row", "the row's sequence, set by the same transaction", `
		select n.row_id::text, format('snapshot %s in transaction %s', n.new_sequence, n.txid) from fault.history n
		where n.source = 'snapshots' and n.op <> 'DELETE' and n.new_sequence is distinct from n.old_sequence
			and not exists (select from fault.history s where s.txid = n.txid and s.row_id = n.row_id and s.source = 'stack_runs'
				and s.new_sequence = n.new_sequence and s.new_sequence is distinct from s.old_sequence)`},
	{3, "a row without its snapshot", "the snapshot of the row's sequence, none if it has yet to begin", `
		select s.id::text, format('%s at %s since %s, snapshot %s', s.status, s.sequence, s.first_sequence, coalesce(n.sequence::text, 'none'))
		from public.stack_runs s
			left join lateral (select max(sequence) as sequence from amber.snapshots where stack_run_id = s.id) n on true
		where s.sequence > 0 and s.status not in ` + endedSQL + `
			and n.sequence is distinct from case when s.sequence > s.first_sequence then s.sequence end`},
	{3, "a row went from host to host", "a row that is given back first", `
		select row_id::text, format('%s, then %s', old_holder, new_holder) from fault.history
		where source = 'stack_runs' and op = 'UPDATE' and old_holder <> new_holder`},
	{3, "an end that nobody could commit", "a row that was held, or waited, or had its time", `
		select row_id::text, format('%s (held by %s) became %s', old_status, coalesce(old_holder::text, 'nobody'), new_status)
		from fault.history
		where source = 'stack_runs' and op = 'UPDATE' and new_status in ('completed', 'failed') and old_status not in ` + endedSQL + `
			and not coalesce(old_status = 'processing' and old_holder is not null or old_status = 'suspended_waiting_child'
				or old_status = 'sleeping' and (new_status = 'completed' or old_deadline <= at)
				or new_status = 'failed' and (old_deadline <= at or old_interrupt = 'timeout'), false)`},
	{3, "held and not at work, or the reverse", "a holder if and only if it is processing", `
		select id::text, format('%s, held by %s', status, coalesce(claimed_by::text, 'nobody'))
		from public.stack_runs where (status = 'processing') <> (claimed_by is not null)`},
	{3, "two rows for one call", "one for each execution", `
		select format('body %s, call %s', s.parent_stack_run_id, s.call_id), format('%s rows', count(*)) from (
			select parent_stack_run_id, call_id from public.stack_runs
			where call_id is not null group by parent_stack_run_id, call_id having count(*) > 1) c
		join public.stack_runs s on s.parent_stack_run_id = c.parent_stack_run_id and s.call_id = c.call_id
		group by s.parent_stack_run_id, s.call_id, fault.execution(s.id, s.parent_stack_run_id) having count(*) > 1`},
	{3, "two bodies for one run", "one", `
		select child_task_run_id::text, format('%s rows', count(*)) from public.stack_runs
		where child_task_run_id is not null group by child_task_run_id having count(*) > 1`},

	{6, "a key of two calls", "a key of its own", `
		select idempotency_key, format('%s calls: %s', count(*), string_agg(id::text, ', ')) from public.stack_runs
		where idempotency_key is not null group by idempotency_key
		having count(*) > 1 and not ( -- a task's own key, of one call in several executions
			idempotency_key like '%/%' and count(distinct parent_task_run_id) = 1 and count(distinct args->0->>'path') <= 1)`},
	{6, "a call without a key", "a key", `
		select id::text, format('none, %s.%s', service_name, method_name) from public.stack_runs
		where call_id is not null and coalesce(idempotency_key, '') = ''`},
}

// run runs checks that are SQL alone.
func (a *auditor) run(ctx context.Context, list []check) error {
	for _, c := range list {
		rows, err := a.db.Query(ctx, c.sql)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		var id, got string
		_, err = pgx.ForEachRow(rows, []any{&id, &got}, func() error {
			a.found(c.promise, c.name, id, c.want, got)
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}
