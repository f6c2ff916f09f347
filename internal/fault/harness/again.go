package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Runs that are started more often than once under one key, retried, and rerun.

// retryEarly retries a fault-early that has failed, if there is one.
func (p *play) retryEarly(ctx context.Context) error {
	var run uuid.UUID
	err := p.database.pool.QueryRow(ctx, `
		select id from public.task_runs where task_name = 'fault-early' and status = 'failed' order by random() limit 1`).Scan(&run)
	if err != nil {
		return nil // there is none
	}
	return p.ask(ctx, http.MethodPost, "/functions/v1/tasks/retry", map[string]any{"id": run}, "")
}

// rerun starts another run of an extra that has no effects.
func (p *play) rerun(ctx context.Context) {
	var run uuid.UUID
	if p.database.pool.QueryRow(ctx, `select id from public.task_runs where task_name = 'fault-race' order by random() limit 1`).Scan(&run) == nil {
		_ = p.ask(ctx, http.MethodPost, "/functions/v1/tasks/rerun", map[string]any{"id": run}, "")
	}
}

// startKeyed has several clients start a run under one key, as often as it takes.
func (p *play) startKeyed(ctx context.Context, n int) {
	key := fmt.Sprintf("harness-%d-%s", n, uuid.New())
	var mu sync.Mutex
	runs := map[uuid.UUID]bool{}
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			for ctx.Err() == nil {
				answer, err := p.send(ctx, http.MethodPost, "/functions/v1/tasks/execute", map[string]any{"taskName": "fault-leaf", "input": n},
					http.Header{"Idempotency-Key": {key}, "Prefer": {"wait=0"}})
				var run struct{ TaskRunID uuid.UUID }
				if err == nil && json.Unmarshal(answer, &run) == nil && run.TaskRunID != uuid.Nil {
					mu.Lock()
					runs[run.TaskRunID] = true
					mu.Unlock()
					return
				}
				pause(ctx, 200*time.Millisecond)
			}
		})
	}
	clients.Wait()
	if len(runs) > 1 {
		p.odd(fmt.Sprintf("%d runs under the key %s", len(runs), key))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for run := range runs {
		p.extras = append(p.extras, extra{run, fmt.Sprint(n)})
	}
}
