package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// cold is how many calls of each run are not counted: the first that it makes.
const cold = 5

// warm has everything done once that comes once.
func (s *stage) warm(ctx context.Context, task string) error {
	if err := s.serve(ctx); err != nil {
		return err
	}
	_, err := s.finish(ctx, task, map[string]any{"ms": min(time.Second, s.plan.Round).Milliseconds()})
	return err
}

// begun returns when the calls of a run were begun, in seconds by the database's
// clock: each is written by the commit that ends the one before.
func (s *stage) begun(ctx context.Context, run string) ([]float64, error) {
	rows, err := s.pool.Query(ctx, `select extract(epoch from created_at)::float8 from public.stack_runs
		where parent_task_run_id = @run and call_id is not null order by call_id`, pgx.StrictNamedArgs{"run": run})
	if err != nil {
		return nil, fmt.Errorf("read the calls of a run: %w", err)
	}
	at, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	if err != nil {
		return nil, fmt.Errorf("read the calls of a run: %w", err)
	}
	return at, nil
}

// steps are the times between, in milliseconds.
func steps(at []float64) []float64 {
	var list []float64
	for i := 1; i < len(at); i++ {
		list = append(list, (at[i]-at[i-1])*1e3)
	}
	return list
}

var errTooShort = errors.New("too few calls came about to tell anything: give it more --duration")

// sequential measures one task that makes one call after the other.
func sequential(name, task string) func(context.Context, *stage) ([]Figure, error) {
	return func(ctx context.Context, s *stage) ([]Figure, error) {
		if err := s.warm(ctx, task); err != nil {
			return nil, err
		}
		var p50, p99 []float64
		for range s.plan.Rounds {
			r, err := s.finish(ctx, task, map[string]any{"ms": s.plan.Round.Milliseconds()})
			if err != nil {
				return nil, err
			}
			at, err := s.begun(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			if len(at) < cold+20 {
				return nil, errTooShort
			}
			took := steps(at[cold:])
			p50, p99 = append(p50, quantile(took, 0.5)), append(p99, quantile(took, 0.99))
		}
		what := map[string]string{"call": "nested call of a service that does nothing", "task": "nested task that does nothing"}[name]
		return []Figure{
			figure(name+".p50", what+", in sequence: median", "ms", true, p50...),
			figure(name+".p99", what+", in sequence: 99th percentile", "ms", true, p99...),
		}, nil
	}
}

// long measures whether calls take longer the more a task has made.
func long(ctx context.Context, s *stage) ([]Figure, error) {
	if err := s.warm(ctx, taskCalls); err != nil {
		return nil, err
	}
	r, err := s.finish(ctx, taskCalls, map[string]any{"times": s.plan.Long})
	if err != nil {
		return nil, err
	}
	at, err := s.begun(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	const early, late = 50, 200
	if len(at) < early+late {
		return nil, errTooShort
	}
	before, after := quantile(steps(at[cold-1:early]), 0.5), quantile(steps(at[len(at)-late:]), 0.5)
	return []Figure{
		figure("long.early", fmt.Sprintf("calls %d to %d of a task: median", cold, early), "ms", true, before),
		figure("long.late", fmt.Sprintf("the last %d of its %d calls: median", late, s.plan.Long), "ms", true, after),
		figure("long.ratio", "the latter to the former", "", true, after/before),
	}, nil
}

// atOnce measures many tasks, each of which makes one call after the other: how
// many calls are begun in a second of the time in which all of them are at it.
func atOnce(name, task string) func(context.Context, *stage) ([]Figure, error) {
	return func(ctx context.Context, s *stage) ([]Figure, error) {
		if err := s.warm(ctx, task); err != nil {
			return nil, err
		}
		var rates []float64
		for range s.plan.Rounds {
			rate, err := s.rate(ctx, task)
			if err != nil {
				return nil, err
			}
			rates = append(rates, rate)
		}
		what := map[string]string{"calls": "nested calls of a service", "tasks": "nested tasks"}[name]
		return []Figure{figure(name+".rate", fmt.Sprintf("%s, %d tasks at once", what, s.plan.Clients), "/s", false, rates...)}, nil
	}
}

func (s *stage) rate(ctx context.Context, task string) (float64, error) {
	all := make([][]float64, s.plan.Clients)
	g, gctx := errgroup.WithContext(ctx)
	for i := range all {
		g.Go(func() error {
			r, err := s.finish(gctx, task, map[string]any{"ms": s.plan.Round.Milliseconds()})
			if err != nil {
				return err
			}
			all[i], err = s.begun(gctx, r.ID)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return density(all)
}

// density is how many there are a second between the last one's beginning and the
// first one's end.
func density(all [][]float64) (float64, error) {
	for _, at := range all {
		if len(at) < cold+2 {
			return 0, errTooShort
		}
	}
	from, to := all[0][cold], all[0][len(all[0])-1]
	for _, at := range all {
		from, to = max(from, at[cold]), min(to, at[len(at)-1])
	}
	n := 0
	for _, at := range all {
		for _, t := range at {
			if t >= from && t < to {
				n++
			}
		}
	}
	if to <= from {
		return 0, errTooShort
	}
	return float64(n) / (to - from), nil
}
