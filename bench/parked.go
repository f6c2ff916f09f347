package bench

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// parkedTables are where a run that waits has rows.
var parkedTables = []string{"public.task_runs", "public.stack_runs", "amber.snapshots", "amber.increments", "amber.replies", "amber.logs"}

// emptyTables are smaller than this, in bytes: each of them and of their indexes has a page or two.
const emptyTables = 2 << 20

// settled is how long a host that does nothing is let alone before it is looked at.
const settled = 2 * time.Second

// parked measures the memory of a host that does nothing, without runs and with
// many that wait, and what each of those takes in the tables.
func parked(ctx context.Context, s *stage) ([]Figure, error) {
	if err := s.restart(ctx); err != nil {
		return nil, err
	}
	idle, err := s.memory(ctx)
	if err != nil {
		return nil, err
	}
	before, err := s.size(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.park(ctx); err != nil {
		return nil, err
	}
	full, err := s.memory(ctx)
	if err != nil {
		return nil, err
	}
	after, err := s.size(ctx)
	if err != nil {
		return nil, err
	}
	var snapshot float64
	if err := s.pool.QueryRow(ctx, `select coalesce(percentile_cont(0.5) within group (order by octet_length(n.data)), 0)
		from amber.snapshots n join public.stack_runs b on b.id = n.stack_run_id join public.task_runs t on t.id = b.child_task_run_id
		where t.task_name = @task`, pgx.StrictNamedArgs{"task": taskParks}).Scan(&snapshot); err != nil {
		return nil, fmt.Errorf("read snapshots: %w", err)
	}
	figures := []Figure{figure("parked.snapshot", "snapshot of a task that waits: median", "bytes", true, snapshot)}
	if before < emptyTables {
		figures = append(figures, figure("parked.run", "a run that waits, in all tables with their indexes", "bytes", true, float64(after-before)/float64(s.plan.Parked)))
	} else {
		s.notes = append(s.notes, "parked.run: the tables have had rows before, whose room these take: measure on an empty database")
	}
	if idle == 0 {
		s.notes = append(s.notes, "memory: this system does not say how much the process has")
		return figures, nil
	}
	return append([]Figure{
		figure("memory.idle", "resident memory of an idle host", "MiB", true, idle),
		figure("memory.parked", fmt.Sprintf("the same, with %d runs that wait", s.plan.Parked), "MiB", true, full),
	}, figures...), nil
}

// memory is what is left to this process when what it does not need was given back.
func (s *stage) memory(ctx context.Context) (float64, error) {
	if err := pause(ctx, settled); err != nil {
		return 0, err
	}
	client.CloseIdleConnections()
	debug.FreeOSMemory()
	return resident(), nil
}

// size is how many bytes the tables have.
func (s *stage) size(ctx context.Context) (bytes int64, err error) {
	err = s.pool.QueryRow(ctx, `select sum(pg_total_relation_size(name::regclass))::bigint from unnest(@tables::text[]) name`,
		pgx.StrictNamedArgs{"tables": parkedTables}).Scan(&bytes)
	if err != nil {
		return 0, fmt.Errorf("read the sizes of %s: %w", strings.Join(parkedTables, ", "), err)
	}
	return bytes, nil
}

// park starts as many runs as the plan says, and returns when all of them wait.
func (s *stage) park(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	var begun atomic.Int64
	for range s.plan.Clients {
		g.Go(func() error {
			for begun.Add(1) <= int64(s.plan.Parked) {
				if _, err := s.execute(gctx, taskParks, nil, 0); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.eventually(ctx, `select count(*) = @want from public.task_runs where task_name = @task and status = 'suspended'`,
		pgx.StrictNamedArgs{"want": s.plan.Parked, "task": taskParks})
}

// lookEvery is how often the tables are asked whether something has come about.
const lookEvery = 100 * time.Millisecond

// eventually waits until the query returns true.
func (s *stage) eventually(ctx context.Context, sql string, args pgx.StrictNamedArgs) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, fmt.Errorf("waited five minutes for: %s", sql))
	defer cancel()
	for {
		var holds bool
		if err := s.pool.QueryRow(ctx, sql, args).Scan(&holds); err != nil {
			return fmt.Errorf("look whether it has come about: %w", err)
		}
		if holds {
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
