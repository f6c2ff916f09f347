package audit

// restChecks hold when all has come to rest: hosts run, and nothing is left that
// one of them could do. What is listed as stuck is at rest.
var restChecks = []check{
	{4, "a run without a body", "a body, or an end", `
		select t.id::text, t.status from public.task_runs t where t.status not in ` + endedSQL + `
			and not exists (select from public.stack_runs s where s.child_task_run_id = t.id)`},
	{4, "a run and its body do not agree", "both ended, or neither", `
		select t.id::text, format('run %s, body %s', t.status, s.status)
		from public.task_runs t join public.stack_runs s on s.child_task_run_id = t.id
		where (t.status in ` + endedSQL + `) <> (s.status in ` + endedSQL + `)`},
	{4, "a run that does not say that it is stuck", "the reason on the run too", `
		select t.id::text, format('only on the row %s: %s', s.id, s.stuck_reason)
		from public.task_runs t join public.stack_runs s on s.child_task_run_id = t.id
		where s.stuck_reason is not null and t.stuck_reason is null and s.status not in ` + endedSQL},
	{4, "nobody takes a row", "taken, or listed as stuck", `
		select id::text, status from public.stack_runs
		where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is null`},
	{4, "a row is held for ever", "an end, or a wait", `
		select id::text, format('held by %s since %s', coalesce(claimed_by::text, 'nobody'), updated_at) from public.stack_runs
		where status = 'processing'`},
	{4, "a timer did not ring", "an end when it was due", `
		select id::text, format('due at %s', coalesce(due_at::text, 'no time')) from public.stack_runs
		where status = 'sleeping' and (due_at is null or due_at <= clock_timestamp())`},
	{4, "a body waits for nothing", "a call that has not ended", `
		select p.id::text, 'none' from public.stack_runs p
		where p.status = 'suspended_waiting_child' and p.stuck_reason is null and not exists (select from public.stack_runs s
			where s.parent_stack_run_id = p.id and s.call_id is not null and s.status not in ` + endedSQL + `)`},
	{4, "a wake was lost", "resumed with the reply", `
		select p.id::text, format('call %s has ended, and its caller waits', s.id)
		from public.stack_runs p join public.stack_runs s on s.parent_stack_run_id = p.id
		where p.status = 'suspended_waiting_child' and p.stuck_reason is null
			and s.call_id is not null and not s.delivered and s.status in ` + endedSQL},
	{4, "nobody ends what has had its time", "an end, or a body that is interrupted and has more", `
		select id::text, format('%s, its time was over at %s', status, deadline_at) from public.stack_runs
		where deadline_at <= clock_timestamp() and stuck_reason is null and status not in ` + endedSQL},
	{4, "an unknown status", "one of those that stack_runs have", `
		select id::text, status from public.stack_runs where status not in ('pending', 'pending_resume', 'pending_execution',
			'processing', 'sleeping', 'suspended_waiting_child', 'completed', 'failed', 'cancelled')`},
}
