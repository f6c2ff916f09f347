package stack

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// UUIDs has the connections of a Store's pool send and read ids as they are. Without
// it they go as text, by way of an error that pgx makes for each: a tenth of what a
// commit costs its host. It asks Postgres for nothing, and suits every pooler.
func UUIDs(config *pgxpool.Config) {
	before := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		pgxuuid.Register(c.TypeMap())
		if before == nil {
			return nil
		}
		return before(ctx, c)
	}
}
