package audit

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed history.sql
var historySQL string

// Execer runs statements: a connection, a pool or a transaction of pgx.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Install gives a migrated database its history, in a schema "fault". It is for
// databases that are thrown away: nothing takes it out again. The role must own
// the tables. There must be no rows yet, or the history lacks how they began.
func Install(ctx context.Context, db Execer) error {
	if _, err := db.Exec(ctx, historySQL); err != nil {
		return fmt.Errorf("install history: %w", err)
	}
	return nil
}
