package local

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed prepare.sql
var prepareSQL string

// Prepare gives a plain database what tasks and migrations expect of a Supabase
// one: the roles anon, authenticated, service_role and authenticator, the
// schemas auth and extensions, auth.uid(), auth.role(), auth.email() and
// auth.jwt(), and the publication supabase_realtime.
//
// What is there stays as it is, and a Supabase database is not touched at all.
// Any number of sessions may call it at once, in one database or in several of
// one cluster.
func Prepare(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, prepareSQL); err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	return nil
}
