package stack

import (
	"context"
)

// A host takes a body only if it gives to one VM as much memory as the body had
// when it was suspended. Larger ones are passed by, for hosts that give more.

// fitsSQL holds if the row s takes no more than @memory bytes, null for any
// number. A VM never shrinks: the newest snapshot is as large as any of them. It is
// an aggregate so that the planner looks up the few rows that are asked about: of
// an exists it makes a scan of all snapshots.
const fitsSQL = `(s.sequence = s.first_sequence or coalesce(
	(select max(n.size) from amber.snapshots n where n.stack_run_id = s.id) <= @memory::bigint, true))`

// memory is the host's Memory as a column has it.
func (h Host) memory() *int64 {
	if h.Memory == 0 {
		return nil
	}
	n := int64(h.Memory)
	return &n
}

// ParkTooLarge parks the rows that wait for a host and that take more memory than
// any host gives that runs and could go on with them otherwise, with the reason,
// and returns how many. A host that registers and gives as much lets them try again.
func (s *Store) ParkTooLarge(ctx context.Context) (rows int, err error) {
	return s.parkLost(ctx, "park what no host has the memory for", `/* ParkTooLarge */
		with live as materialized (
			select engine, engines, keys, memory from amber.hosts where expires_at > now()
		), large as materialized (
			select s.id, s.engine, n.size from public.stack_runs s,
				lateral (select max(size) as size from amber.snapshots where stack_run_id = s.id) n
			where s.status in ('pending', 'pending_resume', 'pending_execution') and s.stuck_reason is null
				and s.sequence > s.first_sequence and n.size > (select min(memory) from live)
		), lost as (
			select s.id, s.size, able.most from large s, lateral (
				select max(memory) as most, bool_or(memory is null) as untold from live
				where (s.engine = live.engine or s.engine = any(live.engines))
					and (keys = '{}' or not exists (select from (`+sealedSQL+`) sealed where sealed.key_id <> all(live.keys)))
			) able
			where s.size > able.most and not able.untold
		), parked as (
			update public.stack_runs s set updated_at = now(),
				stuck_reason = format('It takes %s MiB of memory, and the largest host that runs gives %s MiB to one task. '
					|| 'It goes on by itself when a host starts whose limit-memory (AMBER_LIMIT_MEMORY) is larger than that host''s by %s MiB or more.',
					ceil(lost.size / 1048576.0), floor(lost.most / 1048576.0), ceil((lost.size - lost.most) / 1048576.0))
			from lost where s.id = lost.id
				and s.status in ('pending', 'pending_resume', 'pending_execution') and s.stuck_reason is null
			returning s.child_task_run_id, s.stuck_reason
		)`, namedArgs{})
}
