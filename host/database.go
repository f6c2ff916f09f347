package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/supabase/local"
)

// minConns is how many connections a pool may at least have: the processor
// keeps one to listen on, and slices commit side by side.
const minConns = 16

// insufficientPrivilege is Postgres's SQLSTATE for "may not".
const insufficientPrivilege = "42501"

// database is a migrated database and, unless it was given, the Postgres that has it.
type database struct {
	url    string
	pool   *pgxpool.Pool
	server *local.Server // nil if it was given
}

func openDatabase(ctx context.Context, c Config) (*database, error) {
	db := &database{url: c.DatabaseURL}
	if err := db.open(ctx, c); err != nil {
		return nil, errors.Join(err, db.close(ctx))
	}
	return db, nil
}

func (db *database) open(ctx context.Context, c Config) error {
	if db.url == "" {
		server, err := local.Start(ctx, local.Config{
			Dir: c.postgresDir(), Port: c.DBPort, BinDir: c.PostgresBin, Log: c.Log,
		})
		if err != nil {
			return err
		}
		db.server, db.url = server, server.URL()
	}
	if err := db.migrate(ctx, c); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(db.url)
	if err != nil {
		return fmt.Errorf("parse database URL: %w", err)
	}
	if !strings.Contains(db.url, "pool_max_conns") {
		config.MaxConns = max(config.MaxConns, minConns)
	}
	db.pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("open connection pool: %w", err)
	}
	return nil
}

func (db *database) migrate(ctx context.Context, c Config) error {
	config, err := pgxpool.ParseConfig(db.url) // knows the pool's parameters, which pgx does not
	if err != nil {
		return fmt.Errorf("parse database URL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return db.unconnected(ctx, c, config.ConnConfig, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := db.prepare(ctx, c, conn); err != nil {
		return err
	}
	applied, err := migrations.Apply(ctx, conn)
	for _, change := range applied.Changes {
		c.Log.Info("changed", "what", change)
	}
	for _, name := range applied.Files {
		c.Log.Info("migrated", "file", name)
	}
	return err
}

// unconnected says once what pgx says of each address that it tried.
func (db *database) unconnected(ctx context.Context, c Config, config *pgx.ConnConfig, err error) error {
	var dial *net.OpError
	silent := pgconn.Timeout(err) || errors.As(err, &dial) && dial.Op == "dial"
	if db.server != nil || ctx.Err() != nil || !silent {
		return fmt.Errorf("connect to the database: %w", err)
	}
	return fmt.Errorf("%s: no Postgres answers at %s", c.DatabaseVia, addresses(&config.Config))
}

// name says which database it is, without how to enter it.
func (db *database) name() string {
	config := db.pool.Config().ConnConfig
	return config.Database + " at " + addresses(&config.Config)
}

// prepare makes the roles and schemas of a Supabase project. In a database that
// was given they are its owner's affair, should amber not be allowed to.
func (db *database) prepare(ctx context.Context, c Config, conn *pgx.Conn) error {
	err := local.Prepare(ctx, conn)
	var pgErr *pgconn.PgError
	if db.server == nil && errors.As(err, &pgErr) && pgErr.Code == insufficientPrivilege {
		c.Log.Warn("the database has not all of Supabase's roles and schemas", "err", err)
		return nil
	}
	return err
}

// close closes the pool and stops the Postgres that open started.
func (db *database) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if db.pool != nil {
		within(time.Second, db.pool.Close) // waits for its users; Postgres need not
	}
	if db.server == nil {
		return nil
	}
	return db.server.Stop(ctx)
}

// within runs f and waits for it, but not longer than d.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
	}
}
