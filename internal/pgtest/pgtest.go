// Package pgtest gives each test a Postgres database of its own.
//
//	func TestClaim(t *testing.T) {
//		t.Parallel()
//		pool, err := pgxpool.New(t.Context(), pgtest.New(t))
//		...
//
// The first test of a process that asks starts a throw-away server on a free
// port of loopback; when the process has ended, however it ended, the server
// and its files go too. It needs no TestMain and leaves no goroutine.
//
// AMBER_TEST_DATABASE_URL names a server to use instead, with a user who may
// create databases and roles.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/supabase/local"
	"github.com/jackc/pgx/v5"
)

// timeout is for one act of a test's set-up or clean-up.
const timeout = time.Minute

// New returns the connection string of a fresh, migrated database, which is
// dropped when the test ends.
func New(t testing.TB) string {
	t.Helper()
	s := shared(t)
	if s.external {
		dsn := s.create(t, "template1")
		if err := prepareAndMigrate(dsn); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
		return dsn
	}
	if err := s.migrated(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return s.create(t, templateName)
}

// NewEmpty returns the connection string of a fresh database with nothing in
// it, which is dropped when the test ends.
func NewEmpty(t testing.TB) string {
	t.Helper()
	return shared(t).create(t, "template1")
}

// templateName is the migrated database that New copies.
const templateName = "amber_template"

// server is where the databases are made.
type server struct {
	url      *url.URL
	external bool         // not ours: nothing is left there
	lifeline io.Closer    // kept from being collected: our server stops when it closes
	migrated func() error // makes the template; of the first call only
}

var start = sync.OnceValues(func() (*server, error) {
	s := new(server)
	dsn := os.Getenv("AMBER_TEST_DATABASE_URL")
	if s.external = dsn != ""; !s.external {
		var err error
		if dsn, s.lifeline, err = startCluster(); err != nil {
			return nil, err
		}
	}
	var err error
	if s.url, err = url.Parse(dsn); err != nil {
		return nil, errors.New("AMBER_TEST_DATABASE_URL is no URL") // err would show its password
	}
	s.migrated = sync.OnceValue(s.makeTemplate)
	return s, nil
})

func shared(t testing.TB) *server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return s
}

// create makes a database as a copy of template.
func (s *server) create(t testing.TB, template string) string {
	t.Helper()
	name := databaseName(t)
	// Copying files, instead of writing every page to the log, is quick without fsync.
	if err := s.exec("create database " + name + " template " + template + " strategy file_copy"); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := s.exec("drop database if exists " + name + " with (force)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return s.dsn(name)
}

func (s *server) makeTemplate() error {
	if err := s.exec("create database " + templateName); err != nil {
		return err
	}
	return prepareAndMigrate(s.dsn(templateName))
}

func prepareAndMigrate(dsn string) error {
	return with(dsn, func(ctx context.Context, conn *pgx.Conn) error {
		if err := local.Prepare(ctx, conn); err != nil {
			return err
		}
		_, err := migrations.Apply(ctx, conn)
		return err
	})
}

func (s *server) dsn(database string) string {
	u := *s.url
	u.Path = "/" + database
	return u.String()
}

func (s *server) exec(sql string) error {
	return with(s.url.String(), func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		return nil
	})
}

func with(dsn string, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return do(ctx, conn)
}

// databaseName tells in pg_stat_activity which test it is.
func databaseName(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(t.Name()))
	return "t_" + name[:min(len(name), 40)] + "_" + strings.ToLower(rand.Text()[:12])
}
