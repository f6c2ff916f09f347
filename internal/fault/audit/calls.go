package audit

// callChecks are of calls that are tried again, begin later, have only so much time
// or are cancelled. They hold at any time.
var callChecks = []check{
	{1, "a call was cancelled by nobody", "a caller that gave it up, ended, began anew or was interrupted", `
		select h.row_id::text, format('%s became cancelled in transaction %s', h.old_status, h.txid) from fault.history h
		where h.source = 'stack_runs' and h.op = 'UPDATE' and h.new_status = 'cancelled' and h.old_status not in ` + endedSQL + `
			and h.parent is not null and h.old_interrupt is null and h.new_interrupt is null
			and not exists (select from public.stack_runs s join public.task_runs t on t.id = s.child_task_run_id -- a client did, before it began
				where s.id = h.row_id and t.cancel_requested_at is not null)
			and not exists (select from fault.history p where p.source = 'stack_runs' and p.row_id = h.parent
				and (p.txid = h.txid and (p.new_sequence > p.old_sequence or p.new_status in ` + endedSQL + `) or p.new_interrupt is not null))`},

	{2, "a result after a TimeoutError", "no other line for the await, in this execution", `
		select format('run %s, %s', task_run_id, split_part(message, ' ', 1)), string_agg(left(message, 200), ' and ' order by id)
		from amber.logs l where message like '@%' and not exists ( -- written once more by a slice that was retried
			select from amber.attempts a join public.stack_runs s on s.id = a.stack_run_id
			where s.child_task_run_id = l.task_run_id and a.retry is not null and l.id > a.after_line and l.id <= a.last_line)
		group by task_run_id, split_part(message, ' ', 1)
		having count(*) > 1 and count(*) filter (where message like '@% ! TIMEOUT: %') > 0
			and count(*) > (select 1 + coalesce(max(fault.executions(id)), 0) from public.stack_runs where child_task_run_id = task_run_id)`},

	{4, "a run began before its time", "not before it was scheduled for", `
		select t.id::text, format('scheduled for %s, began at %s', t.scheduled_for, least(t.started_at, began.at))
		from public.task_runs t left join lateral (select min(h.at) as at from public.stack_runs s join fault.history h on h.row_id = s.id
			where s.child_task_run_id = t.id and h.source = 'stack_runs' and h.new_status = 'processing') began on true
		where t.scheduled_for is not null and least(t.started_at, began.at) < t.scheduled_for`},
	{4, "a row woke before it was due", "not before", `
		select h.row_id::text, format('due at %s, %s at %s', h.old_due, h.new_status, h.at) from fault.history h
		where h.source = 'stack_runs' and h.op = 'UPDATE' and h.old_status = 'sleeping' and h.new_status in ('pending', 'processing', 'completed')
			and h.old_due > h.at and not exists (select from fault.history a -- somebody answered in its place
				where a.txid = h.txid and a.row_id = h.row_id and a.old_status = 'processing' and a.new_status in ` + endedSQL + `)`},
	{4, "a try began before it was due", "not before", `
		select a.stack_run_id::text, format('try %s, due at %s, began at %s', a.attempt + 1, a.next_at, h.at)
		from amber.attempts a join fault.history h on h.row_id = a.stack_run_id
		where not a.late and a.retry is null and h.source = 'stack_runs' and h.new_status = 'processing' and h.old_status <> 'processing'
			and h.new_tries >= a.attempt and h.at < a.next_at`},
	{4, "an interrupted body ended as something else", "what it was interrupted for", `
		select s.id::text, format('%s: %s %s', s.interrupt, s.status, s.error) from public.stack_runs s
		where s.interrupt is not null and s.status in ` + endedSQL + ` and not coalesce(
			s.interrupt = 'cancel' and s.status = 'cancelled' and s.error->>'code' = 'CANCELLED'
			or s.interrupt = 'timeout' and s.status = 'failed' and s.error->>'name' = 'TimeoutError'
			or s.status = 'cancelled' and exists (select from public.stack_runs p where p.id = s.parent_stack_run_id
				and (p.status in ` + endedSQL + ` or fault.execution(s.id, p.id) < fault.executions(p.id))), false)`},
	{4, "an interrupted body began anew, or went on as if it were not", "an end", `
		select row_id::text, format('%s with %s tries, then %s with %s', old_interrupt, old_tries, coalesce(new_interrupt, 'not interrupted'), new_tries)
		from fault.history h where source = 'stack_runs' and op = 'UPDATE' and old_interrupt is not null
			and (new_interrupt is null or new_tries <> old_tries) and not ` + retriedSQL},
	{4, "a call outlives its caller", "an end", `
		select s.id::text, format('%s, body %s is %s', s.status, p.id, p.status)
		from public.stack_runs s join public.stack_runs p on p.id = s.parent_stack_run_id
		where s.status not in ` + endedSQL + ` and p.status in ` + endedSQL},
	{4, "a call outlives its execution", "an end", `
		select s.id::text, format('%s of execution %s, body %s is at %s', s.status, fault.execution(s.id, p.id), p.id, fault.executions(p.id))
		from public.stack_runs s join public.stack_runs p on p.id = s.parent_stack_run_id
		where s.status not in ` + endedSQL + ` and fault.execution(s.id, p.id) < fault.executions(p.id)`},

	{6, "the number of tries jumped", "one more for each that is followed by another", `
		select row_id::text, format('%s became %s (%s)', old_tries, new_tries, new_status) from fault.history h
		where source = 'stack_runs' and op = 'UPDATE' and new_tries <> old_tries
			and not (new_tries = old_tries + 1 and new_status = 'sleeping' and (old_status = 'processing' and old_holder is not null
				or old_status = 'suspended_waiting_child')) and not (new_tries = 0 and ` + retriedSQL + `)`},
	{6, "tries that were not recorded", "each, in order, without a gap", `
		select s.id::text, format('%s tries, recorded %s', s.tries, coalesce(a.list::text, 'none')) from public.stack_runs s
			left join (select stack_run_id, array_agg(attempt order by id) as list from amber.attempts t where not late and retry is null
				and id > coalesce((select max(id) from amber.attempts r where r.stack_run_id = t.stack_run_id and r.retry is not null), 0) group by stack_run_id) a
			on a.stack_run_id = s.id
		where (s.tries > 0 or a.list is not null) and a.list is distinct from (select array_agg(n) from generate_series(1, s.tries) n)`},
}
