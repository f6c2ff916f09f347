package stack

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// ParkEngineless parks the rows that wait for a host and whose engine no host
// has that runs, with the reason, and returns how many. A host that registers lets
// all of them try again.
func (s *Store) ParkEngineless(ctx context.Context) (rows int, err error) {
	return s.parkLost(ctx, "park what no host has the engine of", `/* ParkEngineless */
		with live as (
			select engine, engines from amber.hosts where expires_at > now()
		), parked as (
			update public.stack_runs s set updated_at = now(),
				stuck_reason = 'No host that runs has the engine that suspended it (' || left(s.engine, 12)
					|| '). It goes on when a host starts that has it: an amber of the version that it was suspended by, or one that carries that engine along.'
			where s.status in ('pending', 'pending_resume', 'pending_execution') and s.stuck_reason is null and s.engine is not null
				and exists (select from live) and not exists (select from live where s.engine = live.engine or s.engine = any(live.engines))
			returning s.child_task_run_id, s.stuck_reason
		)`, pgx.StrictNamedArgs{})
}
