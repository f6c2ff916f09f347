package host

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Database is the database of a configuration, for hosts that come and go on it,
// and for who looks at it from outside. It is to be closed.
type Database struct {
	config Config
	db     *database
}

// OpenDatabase finds the configured database, and starts the embedded Postgres if
// there is to be one, for which it makes amber's own keys. It changes nothing in the database.
func OpenDatabase(ctx context.Context, c Config) (*Database, error) {
	c = c.withDefaults()
	if c.DatabaseURL == "" { // the keys come before the database that is sealed with them
		if _, err := openRing(c); err != nil {
			return nil, err
		}
	}
	db, err := reachDatabase(ctx, c)
	if err != nil {
		return nil, err
	}
	c.DatabaseURL, c.Pooler = db.url, db.pooler
	return &Database{c, db}, nil
}

// Config is the configuration for hosts on this database.
func (d *Database) Config() Config { return d.config }

// Embedded reports whether it has a Postgres of its own, which ends with it.
func (d *Database) Embedded() bool { return d.db.server != nil }

// PoolConfig returns what to connect with as hosts do.
func (d *Database) PoolConfig() (*pgxpool.Config, error) { return d.db.config() }

// Name says which database it is, without how to enter it.
func (d *Database) Name() (string, error) {
	config, err := d.db.config()
	if err != nil {
		return "", err
	}
	return nameOf(config), nil
}

// Close stops the embedded Postgres, if there is one.
func (d *Database) Close(ctx context.Context) error { return d.db.close(ctx) }
