package stack

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// planOnceSQL: the statements are such that one plan suits all arguments, and to
// plan a claim takes three times as long as to run it. Such a plan outlives the
// tables' being small, so it must not read them from end to end, nor build a table of
// hashes for the few rows that a commit writes.
const planOnceSQL = `/* PlanOnce */ set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set jit = off`

// PlanOnce has Postgres plan each statement of a Store's connections once, and so
// that it is as good when there are millions of rows. It is not for connections
// through a pooler that gives them another session for each transaction: there, no
// plan is kept.
func PlanOnce(config *pgxpool.Config) {
	before := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		if before != nil {
			if err := before(ctx, c); err != nil {
				return err
			}
		}
		if _, err := c.Exec(ctx, planOnceSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("have statements planned once: %w", err)
		}
		return nil
	}
}
