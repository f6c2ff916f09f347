package stack

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/vm"
)

// KeyUse says how much of the database is sealed with one key.
type KeyUse struct {
	ID        string // as in AMBER_KEYS
	Writes    bool   // this Store seals with it
	Known     bool   // this Store's ring has it
	Replies   int64  // rows of amber.replies
	Snapshots int64  // rows of amber.snapshots: a body that waits has up to 16; of ended bodies only those that failed and may be retried
	Waiting   int64  // bodies that have not ended and have one of those
}

// KeyUse returns the keys that the database is sealed with, or noted to be, and
// those of the Store's ring: the one that seals first, then by id. It fails if
// the ring has another key under the id of one of them.
func (s *Store) KeyUse(ctx context.Context) ([]KeyUse, error) {
	samples, err := s.pool.Query(ctx, `/* KeyUse: samples */ select id, sample from amber.keys`)
	if err != nil {
		return nil, fmt.Errorf("check keys: %w", err)
	}
	var id string
	var sample []byte
	if _, err := pgx.ForEachRow(samples, []any{&id, &sample}, func() error {
		_, err := s.checkSample(id, sample)
		return err
	}); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `/* KeyUse: rows */
		select id, sum(replies)::bigint as replies, sum(snapshots)::bigint as snapshots, sum(waiting)::bigint as waiting from (
			select key_id as id, count(*) as replies, 0 as snapshots, 0 as waiting from amber.replies group by key_id
			union all
			select n.key_id, 0, count(*), count(distinct s.id) filter (where s.status not in ('completed', 'failed', 'cancelled'))
			from amber.snapshots n left join public.stack_runs s on s.id = n.stack_run_id group by n.key_id
			union all select id, 0, 0, 0 from amber.keys
			union all select unnest(@ring::text[]), 0, 0, 0
		) uses group by id`, namedArgs{"ring": s.ring.IDs()})
	if err != nil {
		return nil, fmt.Errorf("count what keys seal: %w", err)
	}
	uses, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (u KeyUse, err error) {
		err = row.Scan(&u.ID, &u.Replies, &u.Snapshots, &u.Waiting)
		u.Writes, u.Known = u.ID == s.ring.Writer(), slices.Contains(s.ring.IDs(), u.ID)
		return u, err
	})
	if err != nil {
		return nil, fmt.Errorf("count what keys seal: %w", err)
	}
	slices.SortFunc(uses, func(a, b KeyUse) int {
		if a.Writes != b.Writes {
			return map[bool]int{true: -1, false: 1}[a.Writes]
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return uses, nil
}

// Reseal seals up to limit rows with the ring's first key that another one has
// sealed, and returns how many; 0 means that none is left, and that keys which
// seal nothing any more have been forgotten. It may be called while hosts run,
// if all of them have the first key; one that still seals with another makes
// more to do. Rows that cannot be opened are passed over: when nothing else is
// left, the reason is the error.
func (s *Store) Reseal(ctx context.Context, limit int) (rows int, err error) {
	if err := s.unparkResealed(ctx); err != nil { // by the calls before this one
		return 0, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		var damaged []error
		for _, table := range []sealedTable{sealedReplies, sealedSnapshots} {
			done, bad, err := s.resealTable(ctx, table, limit-rows)
			rows += done
			damaged = append(damaged, bad...)
			if err != nil {
				return rows, err
			}
		}
		if rows > 0 {
			return rows, nil
		}
		left, err := s.sealedWithOthers(ctx)
		switch {
		case err != nil:
			return 0, err
		case left > 0 && left == int64(len(damaged)):
			return 0, fmt.Errorf("%d rows cannot be sealed anew; the first: %w", left, damaged[0])
		case left == 0:
			return 0, s.forgetKeys(ctx)
		}
		select { // a commit of some host has locked what is left: it takes milliseconds
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// sealedTable is a table of sealed rows. Each has stack_run_id, key_id and data.
type sealedTable struct {
	name string
	kind string // SQL: what tells the rows of one stack_run apart
	rows int    // that are held in memory at once
	anew func(s *Store, r sealedRow) (keyID string, data []byte, err error)
}

type sealedRow struct {
	ID    uuid.UUID
	Kind  string
	KeyID string
	Data  []byte
}

var sealedReplies = sealedTable{"amber.replies", "kind", 500, func(s *Store, r sealedRow) (string, []byte, error) {
	plain, err := s.ring.Open(r.KeyID, r.Data, bytesAD(r.ID, r.Kind))
	if err != nil {
		return "", nil, err
	}
	return s.ring.Seal(plain, bytesAD(r.ID, r.Kind))
}}

var sealedSnapshots = sealedTable{"amber.snapshots", "'snapshot ' || sequence", 20, func(s *Store, r sealedRow) (string, []byte, error) {
	old, err := vm.DecodeSnapshot(r.Data)
	if err != nil {
		return "", nil, err
	}
	snapshot, err := old.Reseal(s.ring)
	if err != nil {
		return "", nil, err
	}
	return snapshot.KeyID, snapshot.Encode(), nil
}}

// resealTable walks a table by stack_run until limit rows are done. Rows that a
// commit has locked are passed over: waiting for one while others are locked
// here could be a deadlock. bad says of each row that cannot be opened why.
func (s *Store) resealTable(ctx context.Context, t sealedTable, limit int) (done int, bad []error, err error) {
	for last := (sealedRow{}); done < limit; {
		n := min(limit-done, t.rows)
		var found []sealedRow
		var batchBad []error
		err := s.tx(ctx, "reseal rows", func(tx pgx.Tx) (err error) {
			rows, err := tx.Query(ctx, `/* resealTable: read */
				select stack_run_id as id, `+t.kind+` as kind, key_id, data from `+t.name+`
				where (stack_run_id, `+t.kind+`) > (@id, @kind) and key_id <> @writer
				order by 1, 2 limit @limit for update skip locked`,
				namedArgs{"id": last.ID, "kind": last.Kind, "writer": s.ring.Writer(), "limit": n})
			if err != nil {
				return err
			}
			if found, err = pgx.CollectRows(rows, pgx.RowToStructByName[sealedRow]); err != nil {
				return err
			}
			batchBad = nil
			var b batch
			for _, r := range found {
				keyID, data, err := t.anew(s, r)
				if err != nil {
					batchBad = append(batchBad, fmt.Errorf("the %s of stack run %s: %w", r.Kind, r.ID, err))
					continue
				}
				b.Queue(`/* resealTable: write */ update `+t.name+` set key_id = @key, data = @data where stack_run_id = @id and `+t.kind+` = @kind`,
					namedArgs{"key": keyID, "data": data, "id": r.ID, "kind": r.Kind})
			}
			return b.send(ctx, tx)
		})
		if err != nil {
			return done, bad, err
		}
		bad = append(bad, batchBad...)
		done += len(found) - len(batchBad)
		if len(found) < n {
			break
		}
		last = found[len(found)-1]
	}
	return done, bad, nil
}

func (s *Store) sealedWithOthers(ctx context.Context) (rows int64, err error) {
	err = s.pool.QueryRow(ctx, `/* sealedWithOthers */
		select (select count(*) from amber.replies where key_id <> @writer) + (select count(*) from amber.snapshots where key_id <> @writer)`,
		namedArgs{"writer": s.ring.Writer()}).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("count what is left to reseal: %w", err)
	}
	return rows, nil
}

// forgetKeys forgets the keys that seal nothing. A host that still seals with
// one of them notes it again (see [Store.NoteKey]).
func (s *Store) forgetKeys(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `/* forgetKeys */
		delete from amber.keys k where k.id <> @writer
			and not exists (select from amber.replies r where r.key_id = k.id)
			and not exists (select from amber.snapshots n where n.key_id = k.id)`,
		namedArgs{"writer": s.ring.Writer()})
	if err != nil {
		return fmt.Errorf("forget keys: %w", err)
	}
	return nil
}
