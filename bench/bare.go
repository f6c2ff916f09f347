package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// bareTable is for commits without amber, where no client of the database sees it.
const bareTable = "amber.bench_bare"

// bare measures what a commit of one row costs on this machine, whoever makes it:
// by it, figures of different machines can be compared.
func bare(ctx context.Context, s *stage) ([]Figure, error) {
	if _, err := s.pool.Exec(ctx, `create table if not exists `+bareTable+` (n bigint); alter table `+bareTable+` enable row level security`); err != nil {
		return nil, fmt.Errorf("make a table: %w", err)
	}
	config, err := s.database.PoolConfig()
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = int32(s.plan.Clients), int32(s.plan.Clients)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open connection pool: %w", err)
	}
	defer pool.Close()
	one, many, err := s.rounds(ctx, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, `insert into `+bareTable+` values (1)`)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("commit on %d connections: %w", s.plan.Clients, err)
	}
	if _, err := s.pool.Exec(ctx, `drop table `+bareTable); err != nil {
		return nil, fmt.Errorf("remove the table: %w", err)
	}
	return []Figure{
		figure("bare.p50", "commit of one row, without amber: median", "ms", true, one.p50...),
		figure("bare.p99", "commit of one row, without amber: 99th percentile", "ms", true, one.p99...),
		figure("bare.rate", fmt.Sprintf("the same, %d connections", s.plan.Clients), "/s", false, many.rate...),
	}, nil
}
