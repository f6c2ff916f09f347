package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/supabase/local"
)

// Migrate brings the configured database up to date and returns what that changed.
// With dryRun it changes nothing and returns what it would. Without a database
// URL it is the embedded database, which is started for it unless a host runs it.
func Migrate(ctx context.Context, c Config, dryRun bool) (report migrations.Report, err error) {
	c = c.withDefaults()
	db, err := visitDatabase(ctx, c)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, db.close(ctx)) }()
	err = db.patiently(ctx, c, func(ctx context.Context, c Config) error {
		conn, err := db.connect(ctx, c)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if dryRun {
			report, err = migrations.Plan(ctx, conn)
			return err
		}
		if err := db.prepare(ctx, c, conn); err != nil {
			return err
		}
		report, err = migrations.Apply(ctx, conn)
		return err
	})
	return report, err
}

// HasDatabase reports whether there is a database to work on: one was given, or
// the data directory has an embedded one.
func (c Config) HasDatabase() (bool, error) {
	if c.DatabaseURL != "" {
		return true, nil
	}
	found, err := local.HasDatabase(c.postgresDir())
	if err != nil {
		return false, fmt.Errorf("look for a database: %w", err)
	}
	return found, nil
}
