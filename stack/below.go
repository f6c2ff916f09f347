package stack

import "github.com/google/uuid"

// A body that is to end waits for those below it that are to end first.

// belowFirstSQL holds if the body s knows that it is to end, and bodies below it are to
// end first. Whether they have is seen by a statement that comes after the one which
// locked the body: that one may have waited for what it does not see.
const belowFirstSQL = `(s.interrupted_at is not null and exists (
	select from public.stack_runs b where b.parent_stack_run_id = s.id and b.interrupt is not null
		and b.status not in ('completed', 'failed', 'cancelled')))`

// mayGoOnSQL holds if the body s may be claimed for all that: it knows of nothing, or
// knew when the statement began, and all below it had ended.
const mayGoOnSQL = `(s.interrupted_at is null or not ` + belowFirstSQL + `
	and exists (select from public.stack_runs q where q.id = s.id and q.interrupted_at is not null))`

// queueBelowFirst loses the fence of a slice which was to go on from a body's wait,
// if that is not over.
func queueBelowFirst(b *batch, id uuid.UUID) {
	b.then(`/* below first */ select case when exists (select from public.stack_runs s where id = @id and `+belowFirstSQL+`) then amber.stop('AMB01') end`,
		namedArgs{"id": id})
}
