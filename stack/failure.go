package stack

import (
	"github.com/google/uuid"
)

// A body that failed keeps its snapshot and a row of amber.failures, in case its run
// is retried: for as long as no committed slice has seen the failure. A caller that
// goes on has dealt with it; one that ends as anything but failed will not go on.
//
// The calls that the last slice had replies of are kept by name. They are delivered
// like all others: what a body has not seen says what it waits for, and is looked for
// by every host, once a second.

// queueFailure keeps what a body that fails needs to go on once more: it has to be
// queued before what its last slice settled, and before its open calls are cancelled.
// A body that was never suspended begins anew, for which nothing is needed.
func queueFailure(b *batch, e Ending) {
	if e.Sequence == 0 {
		return
	}
	seen := make([]uuid.UUID, 0, len(e.Delivered)+len(e.Settled))
	seen = append(seen, e.Delivered...)
	for _, settled := range e.Settled {
		seen = append(seen, settled.ID)
	}
	unsent := make([]uuid.UUID, 0, len(e.Unsent))
	for _, c := range e.Unsent {
		unsent = append(unsent, c.ID)
	}
	b.then(`/* end: failure */
		insert into amber.failures (stack_run_id, caller, seen, open, unsent, line)
		select s.id, s.parent_stack_run_id, @seen, case when @open then array(select c.id from public.stack_runs c
				where c.parent_stack_run_id = s.id and c.status not in ('completed', 'failed', 'cancelled') and c.id <> all(@seen)) else '{}' end,
			@unsent, coalesce((select max(l.id) from amber.logs l where l.task_run_id = @run), 0)
		from public.stack_runs s where s.id = @id and s.sequence > s.first_sequence
		on conflict (stack_run_id) do update set seen = excluded.seen, open = excluded.open, unsent = excluded.unsent, line = excluded.line`,
		namedArgs{"id": e.ID, "run": e.TaskRun, "seen": seen, "unsent": unsent, "open": e.CancelOpen})
}
