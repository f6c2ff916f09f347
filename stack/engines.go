package stack

import (
	"context"
)

// ParkEngineless parks the rows that wait for a host and whose engine no host
// has that runs, with the reason, and returns how many. A host that registers and
// has it lets them try again.
func (s *Store) ParkEngineless(ctx context.Context) (rows int, err error) {
	const limit = 1000
	for n := limit; n == limit; rows += n {
		n, err = s.parkLost(ctx, "park what no host has the engine of", `/* ParkEngineless */
			with live as (
				select engine, engines from amber.hosts where expires_at > now()
			), lost as (
				select s.id from public.stack_runs s
				where s.status in ('pending', 'pending_resume', 'pending_execution') and s.stuck_reason is null and s.engine is not null
					and exists (select from live) and not exists (select from live where s.engine = live.engine or s.engine = any(live.engines))
				order by s.priority desc, s.created_at
				limit @limit for update of s skip locked
			), parked as (
				update public.stack_runs s set updated_at = now(),
					stuck_reason = 'No host that runs has the engine that suspended it (' || left(s.engine, 12)
						|| '). It goes on when a host starts that has it: an amber of the version that it was suspended by, or one that carries that engine along.'
				from lost where s.id = lost.id
				returning s.child_task_run_id, s.stuck_reason
			)`, namedArgs{"limit": limit})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}
