package host

import (
	"context"

	"github.com/amberhost/amber/migrations"
)

// Migrate brings the configured database up to date and returns what that changed.
// With dryRun it changes nothing and returns what it would.
func Migrate(ctx context.Context, c Config, dryRun bool) (migrations.Report, error) {
	panic("not built yet")
}

// KeyUse says how much of the database is sealed with a key of amber's own.
type KeyUse struct {
	ID      string // as in AMBER_KEYS
	Writes  bool   // new rows are sealed with it
	Known   bool   // it is among AMBER_KEYS
	Replies int64  // rows of amber.replies
	Waiting int64  // snapshots of runs that wait
}

// Keys returns the keys that the configured database is sealed with or that are configured.
func Keys(ctx context.Context, c Config) ([]KeyUse, error) { panic("not built yet") }

// Reseal seals with the first key what others have sealed, while hosts run,
// and returns how many rows that were. Afterwards the others can be dropped
// from AMBER_KEYS.
func Reseal(ctx context.Context, c Config, progress func(rows int64)) (int64, error) {
	panic("not built yet")
}
