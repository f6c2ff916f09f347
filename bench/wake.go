package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// sweep is about how often a host searches the tables without being told to.
const sweep = 1100 * time.Millisecond

// insertion is a way in which another session has a host begin a run.
type insertion struct {
	name, what string
	wakes      func(Plan) int
	pause      func() time.Duration // between two
	insert     string               // for the run @id of the task @task
	await      bool                 // the next one comes when this one was taken
	release    string               // what is timed instead, when all are inserted, of the run @id; "": the insert
}

// The args are what clients of the original write.
const insertBody = `
	with run as (insert into public.task_runs (id, task_name, input, status) values (@id, @task, '{}', 'queued') returning id)
	insert into public.stack_runs (parent_task_run_id, parent_run_id, child_task_run_id, service_name, module_name, method_name, args, stuck_reason)
	select id, id, id, 'tasks', 'tasks', 'execute', jsonb_build_array(@task::text, '{}'::jsonb), @stuck from run
	returning extract(epoch from clock_timestamp())::float8`

var insertions = []insertion{
	{
		name: "wake.hint", what: "stack_run that another session inserts, until a host has it",
		wakes: func(p Plan) int { return p.Wakes }, pause: func() time.Duration { return 50 * time.Millisecond },
		insert: insertBody,
	}, {
		// Clearing why a row is stuck notifies nobody.
		name: "wake.lost", what: "the same, where no notification comes and the sweep finds it",
		wakes: func(p Plan) int { return (p.Wakes + 1) / 2 }, pause: func() time.Duration { return rand.N(sweep / 4) },
		insert: insertBody,
		release: `update public.stack_runs set stuck_reason = null where child_task_run_id = @id
			returning extract(epoch from clock_timestamp())::float8`,
	}, {
		name: "wake.run", what: "task_run without a stack_run, which gets one after a second",
		wakes: func(p Plan) int { return (p.Wakes + 9) / 10 }, pause: func() time.Duration { return rand.N(sweep) }, await: true,
		insert: `insert into public.task_runs (id, task_name, input, status) select @id, @task, '{}', 'queued' where @stuck::text is null
			returning extract(epoch from clock_timestamp())::float8`,
	},
}

// wake measures how soon a host has what another session wrote.
func wake(ctx context.Context, s *stage) ([]Figure, error) {
	if err := s.serve(ctx); err != nil {
		return nil, err
	}
	if _, err := s.finish(ctx, taskTrivial, nil); err != nil {
		return nil, err
	}
	figures := []Figure{}
	for _, i := range insertions {
		took, err := s.woken(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.name, err)
		}
		figures = append(figures, figure(i.name+".p50", i.what+": median", "ms", true, quantile(took, 0.5)))
	}
	return figures, nil
}

// woken returns how long each took by the database's clock, in milliseconds.
func (s *stage) woken(ctx context.Context, i insertion) ([]float64, error) {
	ids := make([]uuid.UUID, i.wakes(s.plan))
	since := map[uuid.UUID]float64{}
	write := func(sql string, args pgx.StrictNamedArgs) error {
		for n := range ids {
			if ids[n] == uuid.Nil {
				ids[n] = uuid.New()
			}
			args["id"] = ids[n]
			var at float64
			if err := s.pool.QueryRow(ctx, sql, args).Scan(&at); err != nil {
				return fmt.Errorf("insert a run: %w", err)
			}
			since[ids[n]] = at
			if i.await {
				if err := s.taken(ctx, ids[n:n+1]); err != nil {
					return err
				}
			}
			if err := pause(ctx, i.pause()); err != nil {
				return err
			}
		}
		return nil
	}
	var stuck *string
	if i.release != "" {
		reason := "amber bench clears this in a moment"
		stuck = &reason
	}
	err := write(i.insert, pgx.StrictNamedArgs{"task": taskTrivial, "stuck": stuck})
	if err == nil && i.release != "" {
		if err = pause(ctx, 2*sweep); err == nil { // until nothing is left of the notifications
			err = write(i.release, pgx.StrictNamedArgs{})
		}
	}
	if err == nil {
		err = s.taken(ctx, ids)
	}
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `select child_task_run_id, extract(epoch from started_at)::float8 from public.stack_runs
		where child_task_run_id = any(@ids)`, pgx.StrictNamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("read when runs were begun: %w", err)
	}
	var took []float64
	var id uuid.UUID
	var at float64
	if _, err := pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		took = append(took, (at-since[id])*1e3)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read when runs were begun: %w", err)
	}
	return took, nil
}

// taken waits until hosts have begun the runs.
func (s *stage) taken(ctx context.Context, ids []uuid.UUID) error {
	return s.eventually(ctx, `select count(*) = cardinality(@ids::uuid[]) from public.stack_runs where child_task_run_id = any(@ids) and started_at is not null`,
		pgx.StrictNamedArgs{"ids": ids})
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
