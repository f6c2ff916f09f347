package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/amberhost/amber/stack"
)

// start measures requests that start a task and wait for its result.
func start(ctx context.Context, s *stage) ([]Figure, error) {
	if err := s.serve(ctx); err != nil {
		return nil, err
	}
	once := func(ctx context.Context) error {
		r, err := s.execute(ctx, taskTrivial, nil, patience)
		if err == nil && r.Status != stack.StatusCompleted {
			err = fmt.Errorf("a run of %s is %s: %s", taskTrivial, r.Status, r.Error)
		}
		return err
	}
	one, many, err := s.rounds(ctx, once)
	if err != nil {
		return nil, err
	}
	return []Figure{
		figure("start.p50", "POST of a trivial task, to its result: median", "ms", true, one.p50...),
		figure("start.p99", "POST of a trivial task, to its result: 99th percentile", "ms", true, one.p99...),
		figure("start.rate", fmt.Sprintf("the same, %d clients", s.plan.Clients), "/s", false, many.rate...),
	}, nil
}

// timed are rounds of something that was done again and again.
type timed struct{ p50, p99, rate []float64 }

// rounds does something again and again: one after the other, and by as many as
// the plan has clients.
func (s *stage) rounds(ctx context.Context, once func(context.Context) error) (one, many timed, err error) {
	for _, m := range []struct {
		clients int
		to      *timed
	}{{1, &one}, {s.plan.Clients, &many}} {
		if _, err := repeat(ctx, m.clients, min(time.Second, s.plan.Round), once); err != nil { // warm up
			return one, many, err
		}
		for range s.plan.Rounds {
			took, err := repeat(ctx, m.clients, s.plan.Round, once)
			if err != nil {
				return one, many, err
			}
			m.to.p50, m.to.p99 = append(m.to.p50, quantile(took, 0.5)), append(m.to.p99, quantile(took, 0.99))
			m.to.rate = append(m.to.rate, float64(len(took))/s.plan.Round.Seconds())
		}
	}
	return one, many, nil
}

// repeat has clients do something again and again, and returns what each time took
// that was over within the round, in milliseconds.
func repeat(ctx context.Context, clients int, round time.Duration, once func(context.Context) error) (took []float64, err error) {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	end := time.Now().Add(round)
	for range clients {
		g.Go(func() error {
			for time.Now().Before(end) {
				begun := time.Now()
				if err := once(gctx); err != nil {
					return err
				}
				if now := time.Now(); now.Before(end) {
					mu.Lock()
					took = append(took, now.Sub(begun).Seconds()*1e3)
					mu.Unlock()
				}
			}
			return nil
		})
	}
	return took, g.Wait()
}
