package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres's SQLSTATEs for those who are not let in.
const (
	invalidPassword      = "28P01"
	invalidAuthorization = "28000"
	noSuchDatabase       = "3D000"
)

// refusedError is a database that could not be entered, in one line, for pgx has
// one for each address and way that it tried.
type refusedError struct {
	text string
	err  error
}

func (e *refusedError) Error() string { return e.text }
func (e *refusedError) Unwrap() error { return e.err }

// unconnected says once why there is no connection, which setting led there, and
// what to do. If ctx is done it is ctx's error, for what pgx makes of that need
// not be; but that of an embedded server is told all the same.
func (db *database) unconnected(ctx context.Context, c Config, config *pgx.ConnConfig, err error) error {
	var dial *net.OpError
	silent := pgconn.Timeout(err) || errors.As(err, &dial) && dial.Op == "dial"
	where, via := addresses(&config.Config), cmp.Or(db.via, c.DatabaseVia)
	var (
		refused *pgconn.PgError
		lookup  *net.DNSError
	)
	switch {
	case ctx.Err() != nil && db.server == nil:
		return ctx.Err()
	case db.server != nil:
		return fmt.Errorf("connect to the database: %w", err)
	case errors.As(err, &refused): // a pooler may be silent elsewhere: who answers is right
		return &refusedError{fmt.Sprintf("%s: %s", via, advise(refused, config, where)), err}
	case silent:
		return awayError{fmt.Sprintf("%s: no Postgres answers at %s", via, where)}
	case errors.As(err, &lookup):
		return &refusedError{fmt.Sprintf("%s: look up the database's host %s: %s", via, lookup.Name, lookup.Err), err}
	}
	return &refusedError{fmt.Sprintf("%s: connect to Postgres at %s: %s", via, where, oneLine(err)), err}
}

// oneLine is the text of an error of several lines, each of them once.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}

// advise says what Postgres refuses and what to do about it.
func advise(refused *pgconn.PgError, config *pgx.ConnConfig, where string) string {
	switch refused.Code {
	case invalidPassword:
		return fmt.Sprintf("Postgres at %s does not let user %q in with this password: correct the user or the password there; "+
			"in a URL, what is special in it is percent-encoded (@ is %%40)", where, config.User)
	case invalidAuthorization:
		return fmt.Sprintf("Postgres at %s does not let user %q in (%s): correct the user there, or let it in", where, config.User, refused.Message)
	case noSuchDatabase:
		return fmt.Sprintf("Postgres at %s has no database %q: correct the name there, or make it: create database", where, config.Database)
	}
	return fmt.Sprintf("Postgres at %s refuses user %q and database %q: %s (SQLSTATE %s)", where, config.User, config.Database, refused.Message, refused.Code)
}
