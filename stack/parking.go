package stack

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A row that cannot go on is parked: it has a stuck_reason, and nobody claims it.

// parkingLock is the advisory lock between those who park what no live host can go
// on with, who share it, and a host that registers: no row is parked for want of
// a host that has just let all parked rows go on.
const parkingLock = int64(0x616d6265725f70) // "amber_p"

// Park takes a row that cannot go on here out of circulation and says why in
// stuck_reason, on the row and on its run. Clearing stuck_reason lets it go on,
// and so does the next host that starts (see [Store.Register]); one that could not
// be opened, any host that has the key (see [Store.UnparkOpenable]).
func (s *Store) Park(ctx context.Context, host Host, id uuid.UUID, reason string) error {
	return s.tx(ctx, "park stack run", func(tx pgx.Tx) error {
		var b batch
		b.fenced(`/* Park: row */
			update public.stack_runs s set stuck_reason = @reason, claimed_by = null, updated_at = now(),
				stuck_key = (select min(key_id) from (`+sealedSQL+`) sealed where key_id <> all(@keys::text[])),
				status = case when sequence > 0 then 'pending_resume' else 'pending' end
			where id = @id and status = 'processing' and claimed_by = @host`,
			pgx.StrictNamedArgs{"reason": text(reason), "id": id, "host": host.ID, "keys": s.ring.IDs()})
		b.Queue(`/* Park: run */
			update public.task_runs set stuck_reason = @reason, updated_at = now()
			where id = (select child_task_run_id from public.stack_runs where id = @id)
				and status not in ('completed', 'failed', 'cancelled')`,
			pgx.StrictNamedArgs{"reason": text(reason), "id": id})
		return b.send(ctx, tx)
	})
}

// parkLost runs SQL whose last common table expression, parked, parks what no live
// host can go on with, and tells the runs. It returns the number of rows.
func (s *Store) parkLost(ctx context.Context, act, sql string, args pgx.StrictNamedArgs) (rows int, err error) {
	err = s.tx(ctx, act, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `/* parkLost: lock */ select pg_advisory_xact_lock_shared(@lock)`, pgx.StrictNamedArgs{"lock": parkingLock}); err != nil {
			return err
		}
		return tx.QueryRow(ctx, sql+`, told as (
				update public.task_runs t set stuck_reason = p.stuck_reason, updated_at = now()
				from parked p where t.id = p.child_task_run_id and t.status not in ('completed', 'failed', 'cancelled')
			)
			select count(*) from parked`, args).Scan(&rows)
	})
	return rows, err
}

// unpark lets every parked row try again, but those that wait for a key or are in
// quarantine: a host that starts may have the image, the engine or the memory that the others lack.
func unpark(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `/* unpark */
		with parked as (
			update public.stack_runs set stuck_reason = null, updated_at = now()
			where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is not null
				and stuck_key is null
				and not exists (select from amber.crashes c where c.stack_run_id = id and c.sequence = stack_runs.sequence and c.times >= @most)
			returning child_task_run_id
		)
		update public.task_runs t set stuck_reason = null, updated_at = now()
		from parked p where t.id = p.child_task_run_id`, pgx.StrictNamedArgs{"most": quarantineAfter})
	return err
}
