package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockKey is the advisory lock that all who migrate one database queue on: the
// letters of "amber".
const lockKey = 0x616d626572

// lockTimeout is how long a table's lock is waited for at a time, unless the
// connection has a lock_timeout of its own. All who use the table queue behind
// who waits, so it is short; tries is how often.
const (
	lockTimeout = 4 * time.Second
	tries       = 6
)

// simple makes a query use the simple protocol, which leaves no prepared
// statement behind.
const simple = pgx.QueryExecModeSimpleProtocol

// SQLSTATEs that are told apart.
const (
	lockNotAvailable      = "55P03"
	deadlockDetected      = "40P01"
	insufficientPrivilege = "42501"
)

// recordTable is where applied files are noted.
const recordTable = `create schema if not exists amber;
create table amber.migrations (
  name       text primary key,
  checksum   bytea not null,
  applied_at timestamptz not null default now()
);
alter table amber.migrations enable row level security;
`

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// exec runs statements and returns how many rows the last one changed.
func exec(ctx context.Context, tx pgx.Tx, sql string) (int64, error) {
	results, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return 0, err
	}
	return results[len(results)-1].CommandTag.RowsAffected(), nil
}

// collect returns the rows of a query as structs.
func collect[T any](ctx context.Context, q querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, append([]any{simple}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

// value returns the one value of a query.
func value[T any](ctx context.Context, q querier, sql string, args ...any) (T, error) {
	rows, err := q.Query(ctx, sql, append([]any{simple}, args...)...)
	if err != nil {
		var none T
		return none, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}

// inTurn runs do in a transaction, when it is our turn, with a table of applied
// files. Whoever waits for that turn holds nothing that others want.
func inTurn(ctx context.Context, conn *pgx.Conn, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		patience, err := value[string](ctx, tx, `select current_setting('lock_timeout')`)
		if err != nil {
			return fmt.Errorf("read lock_timeout: %w", err)
		}
		if patience == "0" {
			patience = lockTimeout.String()
		}
		// A migration cut short by a timeout meant for requests would never end.
		// Deferred checks are made at once: a table cannot be altered while one is due.
		_, err = exec(ctx, tx, fmt.Sprintf(`
			set local statement_timeout = 0;
			set local idle_in_transaction_session_timeout = 0;
			set local client_min_messages = warning;
			set local lock_timeout = 0;
			select pg_advisory_xact_lock(%d);
			set local lock_timeout = '%s';
			set constraints all immediate`, lockKey, patience))
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if err := ensureRecordTable(ctx, tx); err != nil {
			return err
		}
		return do(tx)
	})
}

func ensureRecordTable(ctx context.Context, tx pgx.Tx) error {
	// Looked up in the tables themselves: another program may have made it while
	// we waited, and what this session has cached of names may not know yet.
	exists, err := value[bool](ctx, tx, `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'amber' and c.relname = 'migrations')`)
	if err != nil {
		return fmt.Errorf("look for amber.migrations: %w", err)
	}
	if exists {
		return nil
	}
	_, err = exec(ctx, tx, recordTable)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == insufficientPrivilege {
		return fmt.Errorf("create schema amber: %w (migrate as the owner of the database, which on Supabase is the role postgres)", err)
	}
	if err != nil {
		return fmt.Errorf("create amber.migrations: %w", err)
	}
	return nil
}

// persist tries again what did not get its locks in time.
func persist(ctx context.Context, conn *pgx.Conn, do func() (Report, error)) (Report, error) {
	for try := 1; ; try++ {
		report, err := do()
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != lockNotAvailable && pgErr.Code != deadlockDetected {
			return report, err
		}
		if try == tries {
			return report, fmt.Errorf("%w%s: end it, or stop what uses the tables, and try again: %w", ErrInUse, holders(ctx, conn), err)
		}
		select { // let through who queued behind us
		case <-ctx.Done():
			return Report{}, ctx.Err()
		case <-time.After(pause(ctx, conn)):
		}
	}
}

// pause is half of what a lock is waited for.
func pause(ctx context.Context, conn *pgx.Conn) time.Duration {
	ms, err := value[int64](ctx, conn, `select setting::bigint from pg_settings where name = 'lock_timeout'`)
	if err != nil || ms == 0 {
		return lockTimeout / 2
	}
	return time.Duration(ms) * time.Millisecond / 2
}

// holders names the sessions that have our tables locked, as far as we may see
// them: " (process 42 of postgres, since 2025-…)".
func holders(ctx context.Context, conn *pgx.Conn) string {
	const locked = `
		select coalesce(string_agg(distinct format('process %s of %s, since %s', a.pid, a.usename,
			coalesce(to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'a time that is hidden from us')), '; '), '')
		from pg_locks l join pg_stat_activity a on a.pid = l.pid
		where l.granted and l.locktype = 'relation' and l.pid <> pg_backend_pid()
			and l.database = (select oid from pg_database where datname = current_database())
			and l.relation in (select oid from pg_class where relnamespace = 'public'::regnamespace and relname = any($1))`
	who, err := value[string](ctx, conn, locked, tableNames)
	if err != nil || who == "" {
		return "" // it is the lock that matters, not who had it
	}
	return " (" + who + ")"
}

// described adds what Postgres says besides its message.
func described(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Detail+pgErr.Hint == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.TrimSpace(pgErr.Detail+" "+pgErr.Hint))
}
