package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/failpoint"
	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/local"
)

// minConns is how many connections a pool has unless it is told: the processor
// keeps one to listen on, and slices commit side by side.
const minConns = 16

// insufficientPrivilege is Postgres's SQLSTATE for "may not".
const insufficientPrivilege = "42501"

// database is a migrated database and, unless it was given, the Postgres that has it.
type database struct {
	url    string
	pooler Pooler
	pool   *pgxpool.Pool
	server *local.Server // nil if it was given, or is a running host's
	via    string        // what led to it, for messages; "" means Config.DatabaseVia
}

// openDatabase starts the embedded Postgres if there is to be one, migrates, and
// makes the pool.
func openDatabase(ctx context.Context, c Config) (*database, error) {
	db, err := reachDatabase(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := db.patiently(ctx, c, db.migrate); err != nil {
		return nil, errors.Join(err, db.close(ctx))
	}
	if err := db.openPool(ctx, c); err != nil {
		return nil, errors.Join(err, db.close(ctx))
	}
	return db, nil
}

// reachDatabase finds the database and what is in front of it, and changes nothing there.
func reachDatabase(ctx context.Context, c Config) (*database, error) {
	db := &database{url: c.DatabaseURL, pooler: c.Pooler}
	if db.url == "" {
		if c.DataDir == "" {
			return nil, errors.New("no database: there is neither a database URL nor a data directory")
		}
		server, err := local.Start(ctx, local.Config{
			Dir: c.postgresDir(), Port: c.DBPort, BinDir: c.PostgresBin, BinDirVia: c.PostgresBinVia, Repository: c.PostgresRepository, Offline: c.PostgresOffline, Log: c.Log,
		})
		if err != nil {
			return nil, err
		}
		db.server, db.url, db.pooler = server, server.URL(), PoolerDirect
	}
	if err := db.patiently(ctx, c, db.find); err != nil {
		return nil, errors.Join(err, db.close(ctx))
	}
	return db, nil
}

// visitDatabase is reachDatabase for what is soon done: where a running host has
// the data directory, it uses that one's Postgres, which it does not stop.
func visitDatabase(ctx context.Context, c Config) (*database, error) {
	db, err := reachDatabase(ctx, c)
	if !errors.Is(err, local.ErrLocked) {
		return db, err
	}
	url, unknown := local.Running(ctx, c.postgresDir())
	if url == "" {
		return nil, errors.Join(err, unknown)
	}
	c.Log.Debug("using the Postgres of the amber that runs here", "dir", c.postgresDir())
	return &database{url: url, pooler: PoolerDirect, via: "the running amber's database in " + c.postgresDir()}, nil
}

// config returns what to connect with.
func (db *database) config() (*pgxpool.Config, error) {
	config, transaction, err := parseDatabase(db.url)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	if transaction && db.pooler == PoolerAuto {
		db.pooler = PoolerTransaction
	}
	return db.pooler.suit(config), nil
}

// find says which pooler is in front of the database.
func (db *database) find(ctx context.Context, c Config) error {
	config, err := db.config()
	if err != nil {
		return err
	}
	if db.pooler == PoolerAuto {
		pooler, err := findPooler(ctx, config.ConnConfig)
		if err != nil {
			return db.unconnected(ctx, c, config.ConnConfig, err)
		}
		db.pooler = pooler
	}
	switch db.pooler {
	case PoolerTransaction:
		c.Log.Info("the database is behind a pooler in transaction mode: nothing is listened for, others' work is seen within a second",
			"database", addresses(&config.ConnConfig.Config))
	case PoolerSession:
		c.Log.Info("the database is behind a pooler in session mode", "database", addresses(&config.ConnConfig.Config))
	}
	return nil
}

// patiently does what needs the database, and again while that is away, as long
// as the configuration says. If ctx is done by then, the error is ctx's.
func (db *database) patiently(ctx context.Context, c Config, do func(context.Context, Config) error) error {
	deadline := time.Now().Add(c.DatabaseWait)
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := do(ctx, c)
		if err == nil || db.server != nil || !away(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		left := time.Until(deadline)
		if left <= 0 && c.DatabaseWait > 0 {
			return fmt.Errorf("%w (waited %v)", err, c.DatabaseWait)
		}
		if left <= 0 {
			return err
		}
		c.Log.Warn("the database is away: trying again", "err", err, "for", left.Round(time.Second))
		select {
		case <-time.After(min(wait, left)):
		case <-ctx.Done():
		}
	}
}

// awayError is a database that nobody answers for.
type awayError struct{ text string }

func (e awayError) Error() string { return e.text }

func away(err error) bool {
	var silent awayError
	return errors.As(err, &silent) || stack.Unavailable(err)
}

// connect opens one connection, for migrations and the like.
func (db *database) connect(ctx context.Context, c Config) (*pgx.Conn, error) {
	config, err := db.config() // knows the pool's parameters, which pgx does not
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, db.unconnected(ctx, c, config.ConnConfig, err)
	}
	return conn, nil
}

// migrate brings the database up to date, or makes sure that it is.
func (db *database) migrate(ctx context.Context, c Config) error {
	conn, err := db.connect(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if c.CheckOnly {
		return upToDate(ctx, conn)
	}
	if err := db.prepare(ctx, c, conn); err != nil {
		return err
	}
	applied, err := migrations.Apply(ctx, conn)
	for _, kept := range applied.Warnings {
		c.Log.Warn("kept as it was", "what", kept)
	}
	for _, change := range applied.Changes {
		c.Log.Info("changed", "what", change)
	}
	for _, name := range applied.Files {
		c.Log.Info("migrated", "file", name)
	}
	return err
}

// upToDate refuses a database that migrations would change.
func upToDate(ctx context.Context, conn *pgx.Conn) error {
	missing, err := migrations.Plan(ctx, conn)
	if err != nil {
		return err
	}
	if wanting := append(missing.Files, missing.Changes...); len(wanting) > 0 {
		return fmt.Errorf("the database's schema is not up to date: it lacks %s. "+
			"Run `amber migrate` as a role that may alter it, or start `amber serve` with --migrate auto", strings.Join(wanting, ", "))
	}
	return nil
}

func (db *database) openPool(ctx context.Context, c Config) error {
	config, err := db.config()
	if err != nil {
		return err
	}
	switch {
	case c.PoolSize > 0:
		config.MaxConns = int32(c.PoolSize)
	case !strings.Contains(db.url, "pool_max_conns"):
		config.MaxConns = max(config.MaxConns, minConns)
	}
	stack.UUIDs(config)
	config.ConnConfig.Tracer = c.Tracer
	failpoint.Trace(config.ConnConfig)
	db.pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("open connection pool: %w", err)
	}
	return nil
}

// name says which database it is, without how to enter it.
func (db *database) name() string { return nameOf(db.pool.Config()) }

func nameOf(config *pgxpool.Config) string {
	return config.ConnConfig.Database + " at " + addresses(&config.ConnConfig.Config)
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
