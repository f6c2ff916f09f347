package stack

import (
	"context"
	"fmt"

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
// and so does the next host that starts and could go on with it (see [Store.Register]); one that could not
// be opened, any host that has the key (see [Store.UnparkOpenable]).
func (s *Store) Park(ctx context.Context, host Host, id uuid.UUID, reason string) error {
	return s.tx(ctx, "park stack run", func(tx pgx.Tx) error {
		var b batch
		b.fenced(`/* Park: row */
			update public.stack_runs s set stuck_reason = @reason, claimed_by = null, updated_at = now(),
				stuck_key = (select min(key_id) from (`+sealedSQL+`) sealed where key_id <> all(@keys::text[])),
				status = case when sequence > first_sequence then 'pending_resume' else 'pending' end
			where id = @id and status = 'processing' and claimed_by = @host`,
			namedArgs{"reason": text(reason), "id": id, "host": host.ID, "keys": s.ring.IDs()})
		b.Queue(`/* Park: run */
			update public.task_runs set stuck_reason = @reason, updated_at = now()
			where id = (select child_task_run_id from public.stack_runs where id = @id)
				and status not in ('completed', 'failed', 'cancelled')`,
			namedArgs{"reason": text(reason), "id": id})
		return b.send(ctx, tx)
	})
}

// parkLost runs SQL whose last common table expression, parked, parks what no live
// host can go on with, and tells the runs. It returns the number of rows.
func (s *Store) parkLost(ctx context.Context, act, sql string, args namedArgs) (rows int, err error) {
	err = s.tx(ctx, act, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `/* parkLost: lock */ select pg_advisory_xact_lock_shared(@lock)`, namedArgs{"lock": parkingLock}); err != nil {
			return err
		}
		return tx.QueryRow(ctx, sql+`, told as (
				update public.task_runs t set stuck_reason = p.stuck_reason, updated_at = now()
				from parked p where t.id = p.child_task_run_id and t.id = any(array(select child_task_run_id from parked)) and t.status not in ('completed', 'failed', 'cancelled')
			)
			select count(*) from parked`, args).Scan(&rows)
	})
	return rows, err
}

// unparkOrder: whoever waits for rows does so for callers before their calls.
var unparkOrder = map[string]string{" skip locked": "coalesce(s.engine, '')", "": "s.id"}

// unpark lets every parked row try again that the new host h could go on with, but
// those that wait for a key or are in quarantine: h may have the image or the
// memory that the others lack.
func (s *Store) unpark(ctx context.Context, h Host) error {
	const limit = 1000
	locked := " skip locked" // those that somebody has are few: they come last, and are waited for
	for n := limit; n == limit || locked != ""; {
		if n < limit {
			locked = ""
		}
		err := s.pool.QueryRow(ctx, `/* unpark */
			with found as (
				select s.id from public.stack_runs s
				where s.status in ('pending', 'pending_resume', 'pending_execution') and s.stuck_reason is not null and s.stuck_key is null
					and coalesce(s.engine, '') = any(@engines) and `+fitsSQL+`
					and not exists (select from amber.crashes c where c.stack_run_id = s.id and c.sequence = s.sequence and c.times >= @most)
				order by `+unparkOrder[locked]+` limit @limit for update of s`+locked+`
			), freed as (
				update public.stack_runs s set stuck_reason = null, updated_at = now() from found where s.id = found.id
				returning s.child_task_run_id
			), told as (
				update public.task_runs t set stuck_reason = null, updated_at = now()
				where t.id = any(array(select child_task_run_id from freed))
			)
			select count(*) from freed`,
			namedArgs{"engines": append([]string{""}, h.Engines...), "memory": h.memory(), "most": quarantineAfter, "limit": limit}).Scan(&n)
		if err != nil {
			return fmt.Errorf("let parked rows go on: %w", err)
		}
	}
	return nil
}
