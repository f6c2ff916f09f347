// Package migrations brings a database to the schema that this program needs.
//
// The files under sql are part of the program. They go up only, are applied in
// the order of their numbers, and never change once published: a later idea is
// a later file.
//
//	applied, err := migrations.Apply(ctx, conn)
package migrations

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The two reasons for which [Apply] leaves a database alone.
var (
	// ErrNewer: the database has a migration that this program does not know.
	ErrNewer = errors.New("the database was migrated by a newer amber: upgrade this one")
	// ErrChanged: a file is not the one that the database was migrated with.
	ErrChanged = errors.New("a published migration never changes, and this program's is not the one that the database has " +
		"(a development database of an unreleased amber: delete its data directory, or choose another with --data)")
)

// lockKey is the advisory lock that all who migrate one database queue on: the
// letters of "amber".
const lockKey = 0x616d626572

// Report is what [Apply] did, or what [Plan] says that it would do.
type Report struct {
	// Changes are what was done to tables of the original that were there
	// before, a line each: "task_runs.logs: text[] becomes jsonb".
	Changes []string
	// Files are the names of the files that were applied, in order.
	Files []string
}

// Plan says what [Apply] would do, and changes nothing: it does it all in a
// transaction that it rolls back. Its errors are those of Apply.
func Plan(ctx context.Context, conn *pgx.Conn) (Report, error) {
	panic("not built yet")
}

// SQL returns the text of all files in the order in which they are applied.
func SQL() string {
	panic("not built yet")
}

// Apply applies what the database does not have yet and returns the names of
// those files, in order; none when there was nothing to do. Each file is one
// transaction, recorded in amber.migrations. Any number of programs may call
// Apply on one database at once.
//
// An error names the file and, where Postgres tells it, the line; the files
// named in the result have been applied even then. It is [ErrNewer] or
// [ErrChanged] if the database is not one that this program may use.
func Apply(ctx context.Context, conn *pgx.Conn) (Report, error) {
	files, err := load()
	if err != nil {
		return Report{}, err
	}
	var applied Report
	for {
		name, err := applyNext(ctx, conn, files)
		if err != nil {
			return applied, fmt.Errorf("migrate: %w", err)
		}
		if name == "" {
			return applied, nil
		}
		applied.Files = append(applied.Files, name)
	}
}

// applyNext applies the first file that is not recorded and returns its name,
// or "" if there is none. What is recorded is read anew under the lock, since
// another program may have been here while we waited.
func applyNext(ctx context.Context, conn *pgx.Conn, files []file) (name string, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		recorded, err := readRecorded(ctx, tx)
		if err != nil {
			return err
		}
		next, err := firstMissing(files, recorded)
		if err != nil || next == nil {
			return err
		}
		if err := next.apply(ctx, tx); err != nil {
			return err
		}
		name = next.name
		return nil
	})
	if err != nil {
		return "", err
	}
	return name, nil
}

// lock waits for this transaction's turn and makes the table of applied files.
func lock(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, int64(lockKey)); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	var exists bool
	if err := tx.QueryRow(ctx, `select to_regclass('amber.migrations') is not null`).Scan(&exists); err != nil {
		return fmt.Errorf("look for amber.migrations: %w", err)
	}
	if exists {
		return nil
	}
	_, err := tx.Conn().PgConn().Exec(ctx, `
		create schema if not exists amber;
		create table amber.migrations (
		  name       text primary key,
		  checksum   bytea not null,
		  applied_at timestamptz not null default now()
		);
		alter table amber.migrations enable row level security`).ReadAll()
	if err != nil {
		return fmt.Errorf("create amber.migrations: %w", err)
	}
	return nil
}

// record is a row of amber.migrations.
type record struct {
	Name     string
	Checksum []byte
}

func readRecorded(ctx context.Context, tx pgx.Tx) ([]record, error) {
	rows, err := tx.Query(ctx, `select name, checksum from amber.migrations order by name`)
	if err != nil {
		return nil, fmt.Errorf("read amber.migrations: %w", err)
	}
	recorded, err := pgx.CollectRows(rows, pgx.RowToStructByName[record])
	if err != nil {
		return nil, fmt.Errorf("read amber.migrations: %w", err)
	}
	return recorded, nil
}

// firstMissing returns the first file that is not recorded, nil if all are, and
// an error if what is recorded is not what this program has.
func firstMissing(files []file, recorded []record) (*file, error) {
	checksums := make(map[string][]byte, len(recorded))
	for _, r := range recorded {
		checksums[r.Name] = r.Checksum
	}
	var first *file
	for i := range files {
		checksum, ok := checksums[files[i].name]
		delete(checksums, files[i].name)
		switch {
		case !ok && first == nil:
			first = &files[i]
		case ok && !bytes.Equal(checksum, files[i].checksum):
			return nil, fmt.Errorf("%s: %w", files[i].name, ErrChanged)
		}
	}
	for _, r := range recorded {
		if _, unknown := checksums[r.Name]; unknown {
			return nil, fmt.Errorf("%s: %w", r.Name, ErrNewer)
		}
	}
	return first, nil
}

// apply runs the whole file and records it.
func (f file) apply(ctx context.Context, tx pgx.Tx) error {
	// A file is many statements, which only the simple protocol takes at once.
	if _, err := tx.Conn().PgConn().Exec(ctx, f.sql).ReadAll(); err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Position > 0 {
			return fmt.Errorf("%s:%d: %w", f.name, f.line(int(pgErr.Position)), err)
		}
		return fmt.Errorf("%s: %w", f.name, err)
	}
	const insert = `insert into amber.migrations (name, checksum) values (@name, @checksum)`
	if _, err := tx.Exec(ctx, insert, pgx.StrictNamedArgs{"name": f.name, "checksum": f.checksum}); err != nil {
		return fmt.Errorf("record %s: %w", f.name, err)
	}
	return nil
}
