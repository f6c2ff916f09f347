package stack

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Register makes a new incarnation of the host h, with an ID of its own and a
// lease. What is parked may try again, if h has the engine and the memory, but for
// what waits for a key. If exclusive
// is set, the caller vouches that no other host of that name runs: earlier
// incarnations lose their leases at once instead of when they run out.
func (s *Store) Register(ctx context.Context, h Host, lease time.Duration, exclusive bool) (Host, error) {
	h.ID = newID()
	err := s.tx(ctx, "register host", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `/* Register: lock */ select pg_advisory_xact_lock(@lock)`, namedArgs{"lock": parkingLock}); err != nil {
			return err
		}
		if exclusive {
			if _, err := tx.Exec(ctx, `/* Register: expire */ update amber.hosts set expires_at = now() - interval '1 second' where name = @name`,
				namedArgs{"name": h.Name}); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `/* Register: insert */
			insert into amber.hosts (id, name, engine, engines, keys, memory, expires_at)
			values (@id, @name, @engine, @engines, @keys, @memory, now() + make_interval(secs => @lease))`,
			namedArgs{"id": h.ID, "name": h.Name, "engine": h.Engines[0], "engines": h.Engines, "keys": s.ring.IDs(),
				"memory": h.memory(), "lease": lease.Seconds()})
		return err
	})
	if err == nil { // nobody parks any more for want of h
		err = s.unpark(ctx, h)
	}
	return h, err
}

// Renew extends the lease of a host. ErrClaimLost if it has run out: the host
// must register anew and drop everything it held.
func (s *Store) Renew(ctx context.Context, host Host, lease time.Duration) error {
	tag, err := s.pool.Exec(ctx, `/* Renew */
		update amber.hosts set expires_at = now() + make_interval(secs => @lease) where id = @id and expires_at > now()`,
		namedArgs{"id": host.ID, "lease": lease.Seconds()})
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrClaimLost
	}
	return nil
}

// Release gives everything that host holds back to any host, and ends the
// incarnation. Bodies go back to their last snapshot, calls to be made again
// under the same idempotency key.
func (s *Store) Release(ctx context.Context, host Host) error {
	return s.tx(ctx, "release host", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `/* Release: rows */
			update public.stack_runs set claimed_by = null, updated_at = now(),
				status = case when sequence > first_sequence then 'pending_resume' else 'pending' end
			where status = 'processing' and claimed_by = @host`, namedArgs{"host": host.ID})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `/* Release: host */ delete from amber.hosts where id = @id`, namedArgs{"id": host.ID})
		return err
	})
}

// Yield gives one row back to any host, if host holds it and it has not gone on
// from that slice.
func (s *Store) Yield(ctx context.Context, host Host, id uuid.UUID, slice Slice) error {
	_, err := s.pool.Exec(ctx, `/* Yield */
		update public.stack_runs set claimed_by = null, updated_at = now(),
			status = case when sequence > first_sequence then 'pending_resume' else 'pending' end
		where id = @id and status = 'processing' and claimed_by = @host and sequence = @sequence
			and attempt = coalesce(@attempt, attempt)`,
		namedArgs{"id": id, "host": host.ID, "sequence": slice.Sequence, "attempt": slice.attempt})
	if err != nil {
		return fmt.Errorf("yield stack run: %w", err)
	}
	return nil
}

// Abandon gives back a body and the calls it made, as far as host holds them:
// used when the answer to a commit was lost, so that it is not known which of
// them exist. Whatever did land goes on from there.
func (s *Store) Abandon(ctx context.Context, host Host, body uuid.UUID) error {
	return s.tx(ctx, "abandon stack run", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `/* Abandon */
			with held as (
				select id from public.stack_runs
				where (id = @body or parent_stack_run_id = @body) and status = 'processing' and claimed_by = @host
				order by id = @body desc for update
			)
			update public.stack_runs s set claimed_by = null, updated_at = now(),
				status = case when s.sequence > first_sequence then 'pending_resume' else 'pending' end
			from held where s.id = held.id`, namedArgs{"body": body, "host": host.ID})
		return err
	})
}

// GiveBack gives to any host what this one has held for longer than age and
// does not know of: rows whose claim or birth was committed, but whose answer
// was lost with a connection. known are the rows that it works for.
func (s *Store) GiveBack(ctx context.Context, host Host, known []uuid.UUID, age time.Duration) (int, error) {
	tag, err := s.pool.Exec(ctx, `/* GiveBack */
		update public.stack_runs set claimed_by = null, updated_at = now(),
			status = case when sequence > first_sequence then 'pending_resume' else 'pending' end
		where status = 'processing' and claimed_by = @host and not id = any(@known)
			and updated_at < now() - make_interval(secs => @age)`,
		namedArgs{"host": host.ID, "known": known, "age": age.Seconds()})
	if err != nil {
		return 0, fmt.Errorf("give back forgotten rows: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

// Reap gives the rows of hosts whose lease has run out to any host, all at once,
// and wakes bodies that wait although a call of theirs has ended (which no path of
// this package leaves behind, but a row that was edited by hand can). Bodies that
// were running when their hosts were lost are counted, see crashes.go. It returns
// how many rows were freed, and whether some are suspected.
func (s *Store) Reap(ctx context.Context) (freed int, suspects bool, err error) {
	err = s.tx(ctx, "reap hosts", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `/* Reap: hosts */
			delete from amber.hosts where id in (select id from amber.hosts where expires_at < now() for update skip locked)`); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `/* Reap: rows */
			with lost as (
				select s.id, s.sequence, coalesce(c.times, 0) + 1 as times,
					s.claimed_by is not null and (s.child_task_run_id is not null or s.service_name = 'tasks') as was_running
				from public.stack_runs s left join amber.crashes c on c.stack_run_id = s.id and c.sequence = s.sequence
				where s.status = 'processing' and case when s.claimed_by is null
					then s.updated_at < now() - interval '1 minute' -- somebody else's spelling of "pending"
					else not exists (select from amber.hosts h where h.id = s.claimed_by) end
				for update of s skip locked
			), freed as (
				update public.stack_runs s set claimed_by = null, updated_at = now(),
					status = case when s.sequence > first_sequence then 'pending_resume' else 'pending' end,
					stuck_reason = case when lost.was_running and lost.times >= @most then format('It was being run when hosts were lost, '
						|| '%s times in a row without any progress: look for the reason in their logs. It goes on when its stuck_reason is cleared.', lost.times)
						else s.stuck_reason end
				from lost where s.id = lost.id
				returning s.child_task_run_id, s.stuck_reason
			), told as (
				update public.task_runs t set stuck_reason = f.stuck_reason, updated_at = now()
				from freed f where t.id = f.child_task_run_id and t.id = any(array(select child_task_run_id from freed)) and f.stuck_reason is not null
					and t.status not in ('completed', 'failed', 'cancelled')
			), counted as (
				insert into amber.crashes (stack_run_id, sequence, times)
				select id, sequence, times from lost where was_running
				on conflict (stack_run_id) do update set sequence = excluded.sequence, times = excluded.times
			)
			select (select count(*) from freed), exists (
				select from lost where was_running and times >= 2
				union all
				select from amber.crashes c join public.stack_runs s on s.id = c.stack_run_id and s.sequence = c.sequence
				where c.times >= 2 and s.status in ('pending', 'pending_resume', 'pending_execution') and s.stuck_reason is null)`,
			namedArgs{"most": quarantineAfter}).Scan(&freed, &suspects)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	woken, err := s.wakeLate(ctx)
	return freed + woken, suspects, err
}

// lateLook is how many ended calls one search for bodies without a wake looks at:
// of bodies that cannot go on there may be any number.
const lateLook = 250

// wakeLate wakes bodies that wait although a call of theirs has ended.
func (s *Store) wakeLate(ctx context.Context) (woken int, err error) {
	s.rounds.late.Lock()
	defer s.rounds.late.Unlock()
	var looked int
	var last uuid.UUID
	err = s.pool.QueryRow(ctx, `/* Reap: late */
		with ended as (
			select parent_stack_run_id as body from public.stack_runs
			where not delivered and call_id is not null and status in ('completed', 'failed', 'cancelled') and parent_stack_run_id > @after
			order by parent_stack_run_id limit @limit
		), late as (
			select p.id from public.stack_runs p
			where p.id = any(array(select distinct body from ended)) and p.status = 'suspended_waiting_child' and p.interrupt is null
				and exists (select from public.stack_runs s where s.parent_stack_run_id = p.id and not s.delivered and s.call_id is not null
					and s.status in ('completed', 'failed', 'cancelled') and s.updated_at < now() - interval '1 second')
			for update of p skip locked
		), woken as (
			update public.stack_runs p set status = 'pending_resume', updated_at = now() from late where p.id = late.id returning p.id
		)
		select (select count(*) from woken), (select count(*) from ended), coalesce((select body from ended order by body desc limit 1), @after)`,
		namedArgs{"after": s.rounds.late.body, "limit": lateLook}).Scan(&woken, &looked, &last)
	if err != nil {
		return 0, fmt.Errorf("wake late bodies: %w", err)
	}
	if looked < lateLook {
		last = uuid.Nil
	}
	s.rounds.late.body = last
	return woken, nil
}
