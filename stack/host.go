package stack

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Register makes a new incarnation of a host, with a lease. If exclusive is
// set, the caller vouches that no other host of that name runs: earlier
// incarnations lose their leases at once instead of when they run out. engines
// are those of [vm.Engine.Identities].
func (s *Store) Register(ctx context.Context, name string, engines []string, lease time.Duration, exclusive bool) (Host, error) {
	h := Host{ID: newID(), Name: name, Engines: engines}
	err := s.tx(ctx, "register host", func(tx pgx.Tx) error {
		if exclusive {
			if _, err := tx.Exec(ctx, `update amber.hosts set expires_at = now() - interval '1 second' where name = @name`,
				pgx.StrictNamedArgs{"name": name}); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `
			insert into amber.hosts (id, name, engine, engines, keys, expires_at)
			values (@id, @name, @engine, @engines, @keys, now() + make_interval(secs => @lease))`,
			pgx.StrictNamedArgs{"id": h.ID, "name": name, "engine": engines[0], "engines": engines, "keys": s.ring.IDs(), "lease": lease.Seconds()})
		return err
	})
	return h, err
}

// Renew extends the lease of a host. ErrClaimLost if it has run out: the host
// must register anew and drop everything it held.
func (s *Store) Renew(ctx context.Context, host Host, lease time.Duration) error {
	tag, err := s.pool.Exec(ctx, `
		update amber.hosts set expires_at = now() + make_interval(secs => @lease) where id = @id and expires_at > now()`,
		pgx.StrictNamedArgs{"id": host.ID, "lease": lease.Seconds()})
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
		_, err := tx.Exec(ctx, `
			update public.stack_runs set claimed_by = null, updated_at = now(),
				status = case when sequence > 0 then 'pending_resume' else 'pending' end
			where status = 'processing' and claimed_by = @host`, pgx.StrictNamedArgs{"host": host.ID})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `delete from amber.hosts where id = @id`, pgx.StrictNamedArgs{"id": host.ID})
		return err
	})
}

// Yield gives one row back to any host, if host holds it and it has not gone on
// from that snapshot.
func (s *Store) Yield(ctx context.Context, host Host, id uuid.UUID, sequence int64) error {
	_, err := s.pool.Exec(ctx, `
		update public.stack_runs set claimed_by = null, updated_at = now(),
			status = case when sequence > 0 then 'pending_resume' else 'pending' end
		where id = @id and status = 'processing' and claimed_by = @host and sequence = @sequence`,
		pgx.StrictNamedArgs{"id": id, "host": host.ID, "sequence": sequence})
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
		_, err := tx.Exec(ctx, `
			with held as (
				select id from public.stack_runs
				where (id = @body or parent_stack_run_id = @body) and status = 'processing' and claimed_by = @host
				order by id = @body desc for update
			)
			update public.stack_runs s set claimed_by = null, updated_at = now(),
				status = case when s.sequence > 0 then 'pending_resume' else 'pending' end
			from held where s.id = held.id`, pgx.StrictNamedArgs{"body": body, "host": host.ID})
		return err
	})
}

// GiveBack gives to any host what this one has held for longer than age and
// does not know of: rows whose claim or birth was committed, but whose answer
// was lost with a connection. known are the rows that it works for.
func (s *Store) GiveBack(ctx context.Context, host Host, known []uuid.UUID, age time.Duration) (int, error) {
	tag, err := s.pool.Exec(ctx, `
		update public.stack_runs set claimed_by = null, updated_at = now(),
			status = case when sequence > 0 then 'pending_resume' else 'pending' end
		where status = 'processing' and claimed_by = @host and not id = any(@known)
			and updated_at < now() - make_interval(secs => @age)`,
		pgx.StrictNamedArgs{"host": host.ID, "known": known, "age": age.Seconds()})
	if err != nil {
		return 0, fmt.Errorf("give back forgotten rows: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

// Reap gives the rows of hosts whose lease has run out to any host, and wakes
// bodies that wait although a call of theirs has ended (which no path of this
// package leaves behind, but a row that was edited by hand can). It returns how
// many rows were freed.
func (s *Store) Reap(ctx context.Context) (freed int, err error) {
	err = s.tx(ctx, "reap hosts", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
			delete from amber.hosts where id in (select id from amber.hosts where expires_at < now() for update skip locked)`); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			with lost as (
				select id from public.stack_runs s
				where s.status = 'processing' and case when s.claimed_by is null
					then s.updated_at < now() - interval '1 minute' -- somebody else's spelling of "pending"
					else not exists (select from amber.hosts h where h.id = s.claimed_by) end
				for update skip locked
			)
			update public.stack_runs s set claimed_by = null, updated_at = now(),
				status = case when s.sequence > 0 then 'pending_resume' else 'pending' end
			from lost where s.id = lost.id`)
		if err != nil {
			return err
		}
		freed = int(tag.RowsAffected())
		tag, err = tx.Exec(ctx, `
			with late as (
				select p.id from public.stack_runs p
				where p.status = 'suspended_waiting_child' and p.id in (
					select s.parent_stack_run_id from public.stack_runs s
					where not s.delivered and s.call_id is not null and s.status in ('completed', 'failed', 'cancelled')
						and s.updated_at < now() - interval '1 second')
				for update skip locked
			)
			update public.stack_runs p set status = 'pending_resume', updated_at = now() from late where p.id = late.id`)
		freed += int(tag.RowsAffected())
		return err
	})
	return freed, err
}

// Park takes a row that cannot go on here out of circulation and says why in
// stuck_reason, on the row and on its run. Clearing stuck_reason lets it go on,
// and so does the next host that starts (see [Store.Unpark]); one that could not
// be opened, any host that has the key (see [Store.UnparkOpenable]).
func (s *Store) Park(ctx context.Context, host Host, id uuid.UUID, reason string) error {
	return s.tx(ctx, "park stack run", func(tx pgx.Tx) error {
		var b batch
		b.fenced(`
			update public.stack_runs s set stuck_reason = @reason, claimed_by = null, updated_at = now(),
				stuck_key = (select min(key_id) from (`+sealedSQL+`) sealed where key_id <> all(@keys::text[])),
				status = case when sequence > 0 then 'pending_resume' else 'pending' end
			where id = @id and status = 'processing' and claimed_by = @host`,
			pgx.StrictNamedArgs{"reason": text(reason), "id": id, "host": host.ID, "keys": s.ring.IDs()})
		b.Queue(`
			update public.task_runs set stuck_reason = @reason, updated_at = now()
			where id = (select child_task_run_id from public.stack_runs where id = @id)
				and status not in ('completed', 'failed', 'cancelled')`,
			pgx.StrictNamedArgs{"reason": text(reason), "id": id})
		return b.send(ctx, tx)
	})
}

// Image returns the stored image with that digest; pgx.ErrNoRows if there is none.
func (s *Store) Image(ctx context.Context, digest []byte) ([]byte, error) {
	var data []byte
	err := s.pool.QueryRow(ctx, `select data from amber.images where digest = @digest`,
		pgx.StrictNamedArgs{"digest": digest}).Scan(&data)
	if err != nil {
		return nil, fmt.Errorf("load image %x: %w", digest, err)
	}
	return data, nil
}

// Unpark lets every parked row try again, but those that wait for a key: a host
// that starts may have the image or the engine that the one before it lacked.
func (s *Store) Unpark(ctx context.Context) error {
	return s.tx(ctx, "unpark stack runs", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			with parked as (
				update public.stack_runs set stuck_reason = null, updated_at = now()
				where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is not null
					and stuck_key is null
				returning child_task_run_id
			)
			update public.task_runs t set stuck_reason = null, updated_at = now()
			from parked p where t.id = p.child_task_run_id`)
		return err
	})
}

// HasImage reports whether the image with that digest is stored.
func (s *Store) HasImage(ctx context.Context, digest []byte) (known bool, err error) {
	err = s.pool.QueryRow(ctx, `select exists (select from amber.images where digest = @digest)`,
		pgx.StrictNamedArgs{"digest": digest}).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("look for image %x: %w", digest, err)
	}
	return known, nil
}

// SaveImage stores an image, so that any host can resume what was suspended on it.
func (s *Store) SaveImage(ctx context.Context, digest []byte, engine string, data []byte) error {
	_, err := s.pool.Exec(ctx, `insert into amber.images (digest, engine, data) values (@digest, @engine, @data) on conflict do nothing`,
		pgx.StrictNamedArgs{"digest": digest, "engine": engine, "data": data})
	if err != nil {
		return fmt.Errorf("save image %x: %w", digest, err)
	}
	return nil
}
