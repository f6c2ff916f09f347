package stack

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Depths is how much is in the tables, of all hosts. What may be much is counted up
// to [DepthsCounted].
type Depths struct {
	Queued   int // rows that any host may claim
	Parked   int // tasks that wait and have a snapshot; beyond DepthsCounted as many as Postgres's statistics say
	Stuck    int // rows that wait for somebody to do something about them
	Sleeping int // timers, runs that begin later, calls between two tries
	Due      int // those of them that should sleep no more
	Hosts    int // with a lease
}

// DepthsCounted is how many rows of a kind [Store.Depths] counts at most.
const DepthsCounted = 10_000

// Depths counts what is in the tables, by their partial indexes. Postgres gives it up
// after as long as patience.
func (s *Store) Depths(ctx context.Context, patience time.Duration) (d Depths, err error) {
	err = s.tx(ctx, "count depths", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `/* Depths: patience */ select set_config('statement_timeout', @ms, true)`,
			namedArgs{"ms": strconv.FormatInt(max(1, patience.Milliseconds()), 10)})
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `/* Depths */
			with counted as materialized (select
				(select count(*) from (select from public.stack_runs
					where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is null limit @most) q) as queued,
				(select count(*) from (select from only amber.snapshots limit @most) q) as snapshots,
				(select count(*) from (select from amber.failures limit @most) q) as failures,
				(select count(*) from (select from public.stack_runs where status in ('pending', 'pending_resume', 'pending_execution')
					and stuck_reason is not null and stuck_key is null limit @most) q)
				+ (select count(*) from (select from public.stack_runs where stuck_key is not null limit @most) q) as stuck,
				(select count(*) from (select from public.stack_runs where status = 'sleeping' limit @most) q) as sleeping,
				(select count(*) from (select from public.stack_runs where status = 'sleeping' and due_at <= now() limit @most) q) as due,
				(select count(*) from amber.hosts where expires_at > now()) as hosts)
			select queued, greatest(0,
					case when snapshots < @most then snapshots else greatest(snapshots, (select reltuples from pg_class where oid = 'amber.snapshots'::regclass)) end
					- case when failures < @most then failures else greatest(failures, (select reltuples from pg_class where oid = 'amber.failures'::regclass)) end)::bigint as parked,
				least(stuck, @most) as stuck, sleeping, due, hosts
			from counted`, namedArgs{"most": DepthsCounted})
		if err != nil {
			return err
		}
		d, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Depths])
		return err
	})
	return d, err
}

// Roots returns the runs from which rows came, by the row. Rows that are gone have none.
func (s *Store) Roots(ctx context.Context, rows []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	found, err := s.pool.Query(ctx, `/* Roots */
		with recursive up as (
			select s.id as row, t.id as run, t.parent_run_id as parent
			from public.stack_runs s join public.task_runs t on t.id = coalesce(s.child_task_run_id, s.parent_task_run_id)
			where s.id = any(@rows)
			union all
			select up.row, t.id, t.parent_run_id from up join public.task_runs t on t.id = up.parent
		)
		select row, run from up where parent is null`, namedArgs{"rows": rows})
	if err != nil {
		return nil, fmt.Errorf("look for roots: %w", err)
	}
	roots := make(map[uuid.UUID]uuid.UUID, len(rows))
	var row, run uuid.UUID
	if _, err := pgx.ForEachRow(found, []any{&row, &run}, func() error { roots[row] = run; return nil }); err != nil {
		return nil, fmt.Errorf("look for roots: %w", err)
	}
	return roots, nil
}
