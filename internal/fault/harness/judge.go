package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/fault/audit"
	"github.com/amberhost/amber/stack"
)

// rest waits until nothing is left to do.
func (p *play) rest(ctx context.Context) error {
	for {
		_ = p.answerWaiting(ctx)
		_ = p.retryEarly(ctx)
		var open int
		err := p.database.pool.QueryRow(ctx, `
			select (select count(*) from public.task_runs where stuck_reason is null and (
					status not in ('completed', 'failed', 'cancelled') or task_name = 'fault-early' and status = 'failed'))
				+ (select count(*) from public.stack_runs where status not in ('completed', 'failed', 'cancelled') and stuck_reason is null)`).Scan(&open)
		switch {
		case err == nil && open == 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case p.over():
			p.report.Restless = open
			return nil // the auditor says which
		}
		time.Sleep(50 * time.Millisecond) // polls another process
	}
}

// release lets go on what is in quarantine, as an operator does: in this place,
// hosts are lost whatever a task does.
func (p *play) release(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		tag, err := p.database.pool.Exec(ctx, `
			update public.stack_runs set stuck_reason = null where stuck_reason like 'It was being run when hosts were lost%'`)
		if err == nil {
			p.mu.Lock()
			p.report.Quarantined += int(tag.RowsAffected())
			p.mu.Unlock()
		}
	}
}

// judge has the auditor look.
func (p *play) judge(ctx context.Context, roots []root) (err error) {
	if err := p.checkParked(ctx); err != nil {
		return err
	}
	if err := p.checkExtras(ctx); err != nil {
		return err
	}
	if err := p.endBroken(ctx); err != nil {
		return err
	}
	cfg := audit.Config{Entries: p.ledger.Entries(), Rest: true, Results: map[string]json.RawMessage{},
		Cancelled: map[string]bool{}, Timed: map[string]bool{}, Below: p.below, Secrets: p.secrets.all(p.database)}
	for _, r := range roots {
		cfg.Trees = append(cfg.Trees, r.tree)
		if r.fate.cancel {
			cfg.Cancelled[r.tree.ID] = r.fate.settled
		}
		cfg.Timed[r.tree.ID] = r.fate.params.Timeout > 0
		run, err := p.store.Run(ctx, r.run)
		if err != nil {
			return fmt.Errorf("result of tree %s: %w", r.tree.ID, err)
		}
		if run.Status == stack.StatusCompleted {
			cfg.Results[r.tree.ID] = run.Result
		}
	}
	tx, err := p.database.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if p.report.Audit, err = audit.Audit(ctx, tx, cfg); err != nil {
		return err
	}
	p.report.Unhit = p.unhit()
	slices.Sort(p.report.Unhit)
	return nil
}
