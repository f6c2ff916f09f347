package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/host"
)

// sent counts what hosts send to Postgres.
type sent struct {
	mu         sync.Mutex
	statements int
	trips      int     // that were waited for: a batch is one
	sessions   []int32 // of Postgres, that the connections have had
}

func (s *sent) add(statements, trips int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statements += statements
	s.trips += trips
}

func (s *sent) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.add(1, 1)
	return ctx
}

func (s *sent) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.add(0, 1)
	return ctx
}

func (s *sent) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) { s.add(1, 0) }

func (s *sent) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (s *sent) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) {
	if data.Err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, int32(data.Conn.PgConn().PID()))
}

func (*sent) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (*sent) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// spent is what was asked of Postgres so far.
type spent struct{ commits, statements, trips, wal float64 }

// cost measures what one call asks of Postgres: the difference between a host that
// is started, makes many calls and is stopped, and one that makes few. What hosts
// do by themselves while they make many is part of it.
func cost(ctx context.Context, s *stage) ([]Figure, error) {
	if s.config.Pooler != host.PoolerDirect {
		s.notes = append(s.notes, "cost: behind a pooler, whose sessions do not end with a host's, commits cannot be counted: give the database itself")
		return nil, nil
	}
	figures := []Figure{}
	for _, c := range []struct{ name, what, task string }{
		{"cost.call", "nested call of a service", taskCalls},
		{"cost.task", "nested task", taskNests},
	} {
		const few = 20
		var at [3]spent
		for i, times := range []int{few, few, few + s.plan.Counted} { // the first one does what comes once
			var err error
			if at[i], err = s.spend(ctx, c.task, times); err != nil {
				return nil, err
			}
		}
		per := func(of func(spent) float64) float64 {
			return (of(at[2]) - 2*of(at[1]) + of(at[0])) / float64(s.plan.Counted)
		}
		figures = append(figures,
			figure(c.name+".commits", "commits of a "+c.what, "", true, per(func(s spent) float64 { return s.commits })),
			figure(c.name+".statements", "statements of a "+c.what, "", true, per(func(s spent) float64 { return s.statements })),
			figure(c.name+".trips", "round trips to Postgres of a "+c.what, "", true, per(func(s spent) float64 { return s.trips })),
			figure(c.name+".wal", "WAL of a "+c.what, "bytes", true, per(func(s spent) float64 { return s.wal })),
		)
	}
	return figures, nil
}

// spend has a host of its own make so many calls, and returns what Postgres has
// counted by then: its sessions tell when they end.
func (s *stage) spend(ctx context.Context, task string, times int) (now spent, err error) {
	if err := s.restart(ctx); err != nil {
		return now, err
	}
	if _, err := s.finish(ctx, task, map[string]any{"times": times}); err != nil {
		return now, err
	}
	if err := s.stop(); err != nil {
		return now, err
	}
	s.sent.mu.Lock()
	sessions := s.sent.sessions
	now.statements, now.trips = float64(s.sent.statements), float64(s.sent.trips)
	s.sent.mu.Unlock()
	for gone := false; !gone; {
		if _, err := s.pool.Exec(ctx, `select pg_stat_force_next_flush()`); err != nil { // of what looks on
			return now, fmt.Errorf("read Postgres's counters: %w", err)
		}
		if err := s.pool.QueryRow(ctx, `select not exists (select from pg_stat_activity where pid = any(@sessions))`,
			pgx.StrictNamedArgs{"sessions": sessions}).Scan(&gone); err != nil {
			return now, fmt.Errorf("look whether the host's sessions have ended: %w", err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return now, err
		}
	}
	if err := s.pool.QueryRow(ctx, `select xact_commit::float8, (pg_current_wal_lsn() - '0/0')::float8 from pg_stat_database
		where datname = current_database()`).Scan(&now.commits, &now.wal); err != nil {
		return now, fmt.Errorf("read Postgres's counters: %w", err)
	}
	return now, nil
}
