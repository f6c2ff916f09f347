package stack

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
)

// The queue of runs that wait for a host is bounded: beyond it, starting another is
// refused, and whoever wants one comes back later. Rows that others insert, and what
// runs call, are not refused. How many wait is counted by the sweep while this host
// has no slots left, and is right to within what came since.

// CodeQueueFull is the code of the error for a run that finds too many waiting.
const CodeQueueFull = "QUEUE_FULL"

// queueFull is that error.
func queueFull() *service.Error {
	return &service.Error{Code: CodeQueueFull, Status: http.StatusTooManyRequests, RetryAfter: queuePatience,
		Message: "Too many runs wait for their turn. Nothing was started; try again later."}
}

const queuePatience = 2 * time.Second

// lookedAt is how many rows are looked at, times how many may wait, to count runs
// among what else waits.
const lookedAt = 4

// Queued counts the runs that wait for a host, up to most of them. Of the rows that
// wait it looks at the first few times as many.
func (s *Store) Queued(ctx context.Context, most int) (n int, err error) {
	err = s.pool.QueryRow(ctx, `/* Queued */
		select least(count(*) filter (where parent_stack_run_id is null and service_name = 'tasks'), @most) from (
			select parent_stack_run_id, service_name from public.stack_runs
			where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is null
			order by priority desc, turn_at, created_at limit @rows) waiting`,
		namedArgs{"most": most, "rows": lookedAt * most}).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	return n, nil
}

// countQueued notes how many runs wait. left says that some may.
func (p *Processor) countQueued(ctx context.Context, left bool) error {
	if !left {
		p.queued.Store(0)
		return nil
	}
	if time.Since(p.counted) < countEvery {
		return nil
	}
	n, err := p.cfg.Store.Queued(ctx, p.cfg.MaxQueued)
	if err == nil {
		p.queued.Store(int64(n))
		p.counted = time.Now()
	}
	return err
}

// countEvery is how long a count is right enough: a busy host searches the tables a
// hundred times a second, and to count tens of thousands of rows takes as long as to
// begin some of them.
const countEvery = queuePatience / 2

// admitStart refuses a run that finds no slot and too many waiting, unless it is
// there already. If it is to wait with the others, it is counted.
func (p *Processor) admitStart(ctx context.Context, slot *slots, params StartParams) (counted bool, err error) {
	if slot != nil || params.sleeps() || !p.running() {
		return false, nil
	}
	if p.queued.Add(1) <= int64(p.cfg.MaxQueued) {
		return true, nil
	}
	p.queued.Add(-1)
	if err := params.checkKey(); err != nil {
		return false, err
	}
	if params.IdempotencyKey != "" {
		if run, err := p.cfg.Store.started(ctx, params); run != uuid.Nil || err != nil {
			return false, err
		}
	}
	return false, queueFull()
}
