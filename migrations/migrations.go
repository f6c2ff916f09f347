// Package migrations brings a database to the schema that this program needs.
//
// The files under sql are part of the program. They go up only, are applied in
// the order of their numbers, and never change once published: a later idea is
// a later file.
//
//	report, err := migrations.Apply(ctx, conn)
//
// A database may have tables of the original system, of any of its generations
// that named rows by UUIDs. The first file then finds them changed to what it
// would have made itself, with their rows in them; adopt.go says how.
//
// Everything goes through the simple protocol and lives within transactions, so
// that it works through a pooler that gives each transaction another session.
package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// The reasons for which [Apply] leaves a database alone.
var (
	// ErrNewer: the database has a migration that this program does not know.
	ErrNewer = errors.New("the database was migrated by a newer amber: upgrade this one")
	// ErrChanged: a file is not the one that the database was migrated with.
	ErrChanged = errors.New("a published migration never changes, and this program's is not the one that the database has " +
		"(a development database of an unreleased amber: delete its data directory, or choose another with --data)")
	// ErrIntegerIDs: the tables are of the generations of the original that
	// numbered their rows.
	ErrIntegerIDs = errors.New("amber names rows by UUIDs and cannot take over tables that number them")
	// ErrUnsuitable: something of a name that amber needs is there, and is not
	// what the original made.
	ErrUnsuitable = errors.New("this is not a database that amber can take over")
	// ErrInUse: the tables stayed locked by others. Nothing was changed; try again.
	ErrInUse = errors.New("the tables are in use by a transaction that does not end")
)

// Report is what [Apply] did, or what [Plan] says that it would do.
type Report struct {
	// Changes are what was done to tables of the original that were there
	// before, a line each: "task_runs.logs: text[] becomes jsonb".
	Changes []string
	// Warnings are what was left as it was although it may open what amber
	// closes, or slow it down: policies, triggers and indexes of your own.
	Warnings []string
	// Files are the names of the files that were applied, in order.
	Files []string
}

func (r *Report) changed(format string, args ...any) {
	r.Changes = append(r.Changes, fmt.Sprintf(format, args...))
}

func (r *Report) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// add appends what a later step did.
func (r *Report) add(step Report) {
	r.Changes = append(r.Changes, step.Changes...)
	r.Warnings = append(r.Warnings, step.Warnings...)
	r.Files = append(r.Files, step.Files...)
}

// Apply applies what the database does not have yet and says what that was;
// nothing when there was nothing to do. Each file is one transaction, recorded
// in amber.migrations. Any number of programs may call Apply on one database at
// once.
//
// While another program migrates the database, Apply waits for it until ctx ends.
// On tables that are in use it waits four seconds at a time, or as long as
// the connection's lock_timeout says, since whoever comes later queues behind
// it, and after some tries gives up with [ErrInUse].
//
// An error names the file and, where Postgres tells it, the line; the files
// named in the result have been applied even then. It is one of this package's
// errors if the database is not one that this program may use.
func Apply(ctx context.Context, conn *pgx.Conn) (Report, error) {
	files, err := load()
	if err != nil {
		return Report{}, err
	}
	var applied Report
	for {
		step, err := persist(ctx, conn, func() (Report, error) { return applyNext(ctx, conn, files) })
		if err != nil {
			return applied, fmt.Errorf("migrate: %w", err)
		}
		if len(step.Files) == 0 {
			return applied, nil
		}
		applied.add(step)
	}
}

// Plan says what [Apply] would do, and changes nothing: it does it all in a
// transaction that it rolls back. Its errors are those of Apply. Meanwhile it
// holds the locks that Apply would hold.
func Plan(ctx context.Context, conn *pgx.Conn) (Report, error) {
	files, err := load()
	if err != nil {
		return Report{}, err
	}
	planned, err := persist(ctx, conn, func() (Report, error) { return tryAll(ctx, conn, files) })
	if err != nil {
		return Report{}, fmt.Errorf("plan migration: %w", err)
	}
	return planned, nil
}

// applyNext applies the first file that is not recorded and names it, or does
// nothing if there is none.
func applyNext(ctx context.Context, conn *pgx.Conn, files []file) (Report, error) {
	if missing, err := peek(ctx, conn, files); err != nil || len(missing) == 0 {
		return Report{}, err
	}
	var done Report
	err := inTurn(ctx, conn, func(tx pgx.Tx) error {
		// Read anew: another program may have been here while we waited.
		missing, err := missingFiles(ctx, tx, files)
		if err != nil || len(missing) == 0 {
			return err
		}
		return missing[0].bring(ctx, tx, &done)
	})
	if err != nil {
		return Report{}, err
	}
	return done, nil
}

// errPlanned rolls a plan back.
var errPlanned = errors.New("only a plan")

// tryAll applies all files that are not recorded and takes everything back.
func tryAll(ctx context.Context, conn *pgx.Conn, files []file) (Report, error) {
	if missing, err := peek(ctx, conn, files); err != nil || len(missing) == 0 {
		return Report{}, err
	}
	var done Report
	err := inTurn(ctx, conn, func(tx pgx.Tx) error {
		missing, err := missingFiles(ctx, tx, files)
		if err != nil {
			return err
		}
		for _, f := range missing {
			if err := f.bring(ctx, tx, &done); err != nil {
				return err
			}
		}
		return errPlanned
	})
	if !errors.Is(err, errPlanned) {
		return Report{}, err
	}
	return done, nil
}

// bring applies a file; the first one to tables made fit for it.
func (f file) bring(ctx context.Context, tx pgx.Tx, report *Report) error {
	if f.number == 1 {
		if err := adopt(ctx, tx, f, report); err != nil {
			return fmt.Errorf("adopt the tables that are there: %w", described(err))
		}
	}
	return f.record(ctx, tx, report)
}

// record applies a file and notes that it was.
func (f file) record(ctx context.Context, tx pgx.Tx, report *Report) error {
	if err := f.apply(ctx, tx); err != nil {
		return err
	}
	if _, err := exec(ctx, tx, f.insert()); err != nil {
		return fmt.Errorf("record %s: %w", f.name, err)
	}
	report.Files = append(report.Files, f.name)
	return nil
}

// peek is missingFiles without a lock, which in a database that has everything
// is all that happens.
func peek(ctx context.Context, conn *pgx.Conn, files []file) ([]file, error) {
	var there bool
	err := conn.QueryRow(ctx, `select to_regclass('amber.migrations') is not null`, simple).Scan(&there)
	if err != nil {
		return nil, fmt.Errorf("look for amber.migrations: %w", err)
	}
	if !there {
		return files, nil
	}
	return missingFiles(ctx, conn, files)
}

// missingFiles returns the files that are not recorded, and an error if what is
// recorded is not what this program has.
func missingFiles(ctx context.Context, q querier, files []file) ([]file, error) {
	recorded, err := collect[struct {
		Name     string
		Checksum string
	}](ctx, q, `select name, encode(checksum, 'hex') as checksum from amber.migrations order by name`)
	if err != nil {
		return nil, fmt.Errorf("read amber.migrations: %w", err)
	}
	var known []string
	for _, r := range recorded {
		i := slices.IndexFunc(files, func(f file) bool { return f.name == r.Name })
		if i < 0 {
			return nil, fmt.Errorf("%s: %w", r.Name, ErrNewer)
		}
		if r.Checksum != files[i].checksum {
			return nil, fmt.Errorf("%s: %w", r.Name, ErrChanged)
		}
		known = append(known, r.Name)
	}
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool { return slices.Contains(known, f.name) }), nil
}
