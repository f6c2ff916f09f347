package stack

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// A host takes a row only if it has the keys of all that it has to open for it.
// The others are passed by, for hosts that have them; if no host that runs has,
// the row is parked until one does.

// sealedSQL are the keys of what has to be opened to go on with the row s: its
// snapshot, its request, and the replies it has not seen.
const sealedSQL = `
	select n.key_id from amber.snapshots n where n.stack_run_id = s.id
	union all
	select r.key_id from amber.replies r where r.stack_run_id = s.id and r.kind = 'request'
	union all
	select r.key_id from public.stack_runs c join amber.replies r on r.stack_run_id = c.id and r.kind = 'reply'
	where c.parent_stack_run_id = s.id and not c.delivered and c.call_id is not null
		and c.status in ('completed', 'failed', 'cancelled')`

// opensSQL holds if the ring @keys opens the row s. The row is not looked into
// while the database has no keys but the ring's: as a rule, it has none.
const opensSQL = `(not exists (select from amber.keys where id <> all(@keys::text[]))
	or not exists (select from (` + sealedSQL + `) sealed where sealed.key_id <> all(@keys::text[])))`

// Pass gives back a row that host holds and cannot open, since something came to
// it that is sealed with another key. passed is false if host would claim it
// again: nobody has noted that key.
func (s *Store) Pass(ctx context.Context, host Host, id uuid.UUID) (passed bool, err error) {
	tag, err := s.pool.Exec(ctx, `/* Pass */
		update public.stack_runs s set claimed_by = null, updated_at = now(),
			status = case when sequence > first_sequence then 'pending_resume' else 'pending' end
		where id = @id and status = 'processing' and claimed_by = @host and not `+opensSQL,
		namedArgs{"id": id, "host": host.ID, "keys": s.ring.IDs()})
	if err != nil {
		return false, fmt.Errorf("pass by stack run: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// ParkUnopenable parks the rows that wait for a host and that no host which runs
// can open, with the reason, and returns how many. A host that can lets them go
// on: see [Store.UnparkOpenable].
func (s *Store) ParkUnopenable(ctx context.Context) (rows int, err error) {
	const limit = 1000
	for n := limit; n == limit; rows += n {
		// A host of a version that did not tell its keys may have them all.
		n, err = s.parkLost(ctx, "park what no host can open", `/* ParkUnopenable */
			with live as (
				select keys from amber.hosts where expires_at > now()
			), lost as (
				select s.id, sealed.keys from public.stack_runs s,
					lateral (select coalesce(array_agg(distinct key_id), '{}') as keys from (`+sealedSQL+`) sealed) sealed
				where s.status in ('pending', 'pending_resume', 'pending_execution') and s.stuck_reason is null
					and not `+opensSQL+`
					and not exists (select from live where keys = '{}' or not exists (select from amber.keys where id <> all(live.keys)))
					and not exists (select from live where sealed.keys <@ live.keys)
				order by s.priority desc, s.created_at
				limit @limit for update of s skip locked
			), parked as (
				update public.stack_runs s set updated_at = now(),
					stuck_key = (select min(key) from unnest(lost.keys) key where key <> all(@keys)),
					stuck_reason = 'No host that runs can open it: it is sealed with key ' || array_to_string(lost.keys, ' and key ')
						|| '. It goes on by itself when a host starts that has this in AMBER_KEYS.'
				from lost where s.id = lost.id
				returning s.child_task_run_id, s.stuck_reason
			)`,
			namedArgs{"keys": s.ring.IDs(), "limit": limit})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// UnparkOpenable lets up to limit rows go on that were parked for want of a key,
// if this host has all that they take, and returns how many.
func (s *Store) UnparkOpenable(ctx context.Context, limit int) (rows int, err error) {
	err = s.pool.QueryRow(ctx, `/* UnparkOpenable */
		with found as (
			select s.id from public.stack_runs s
			where s.stuck_key = any(@keys::text[]) and s.stuck_key is not null
				and not exists (select from (`+sealedSQL+`) sealed where sealed.key_id <> all(@keys::text[]))
			limit @limit for update of s skip locked
		), freed as (
			update public.stack_runs s set stuck_key = null, stuck_reason = null, updated_at = now()
			from found where s.id = found.id
			returning s.child_task_run_id
		), told as (
			update public.task_runs t set stuck_reason = null, updated_at = now()
			where t.id = any(array(select child_task_run_id from freed))
		)
		select count(*) from freed`,
		namedArgs{"keys": s.ring.IDs(), "limit": limit}).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("unpark what this host can open: %w", err)
	}
	return rows, nil
}

// unparkResealed leaves the rows that were parked for want of a key which they
// are not sealed with any more to hosts that have the key they are sealed with now.
func (s *Store) unparkResealed(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `/* unparkResealed */
		with found as (
			select s.id from public.stack_runs s
			where s.stuck_key <> @writer and s.stuck_key is not null
				and s.stuck_key not in (select key_id from (`+sealedSQL+`) sealed)
			order by s.id for update of s -- callers before their calls, as everywhere
		)
		update public.stack_runs s set stuck_key = @writer, updated_at = now() from found where s.id = found.id`,
		namedArgs{"writer": s.ring.Writer()})
	if err != nil {
		return fmt.Errorf("unpark what is sealed anew: %w", err)
	}
	return nil
}
