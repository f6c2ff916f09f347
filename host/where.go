package host

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// parseDatabase reads a database URL, or a text of keywords and values, as pgx
// does. Parameters that are for Prisma and other clients, of which Postgres has
// not heard, are left out; transaction says that they tell of a transaction pooler.
// Its errors show no password, nor any part of a text of which it cannot be told
// where the password ends.
func parseDatabase(text string) (config *pgxpool.Config, transaction bool, err error) {
	rest, query := behindUser(text)
	if strings.Contains(rest, "@") {
		return nil, false, errStrayAt
	}
	clean, foreign := text, url.Values{}
	if u, err := url.Parse(text); err == nil && strings.Contains(text, "://") {
		query := u.Query()
		for name := range query {
			if slices.Contains(foreignParameters, name) {
				foreign[name] = query[name]
				query.Del(name)
			}
		}
		if len(foreign) > 0 {
			u.RawQuery = query.Encode()
			clean = u.String()
		}
	} else if m := pgbouncerWord.FindStringSubmatch(text); m != nil {
		foreign.Set("pgbouncer", m[1])
		clean = pgbouncerWord.ReplaceAllString(text, " ")
	}
	config, err = pgxpool.ParseConfig(clean)
	switch {
	case err != nil && strings.Contains(query, "@"): // a password with a question mark may have ended there
		return nil, false, errStrayAt
	case err != nil && !strings.Contains(text, "://") && maybeSecret.MatchString(text):
		return nil, false, errUnread
	case err != nil:
		return nil, false, fmt.Errorf("%w: want something like %s, with what is special in the password percent-encoded (@ is %%40)", err, likeDatabase)
	case slices.ContainsFunc(serversOf(&config.ConnConfig.Config), func(s server) bool { return strings.Contains(s.host, "@") }):
		return nil, false, errStrayAt
	}
	return config, foreign.Get("pgbouncer") == "true", nil
}

// likeDatabase shows what a database URL looks like.
const likeDatabase = "postgres://USER:PASSWORD@HOST:5432/DATABASE"

// errStrayAt is for a text with an @ where none belongs, as a rule because the
// password has one: then what follows it is a part of the password.
var errStrayAt = errors.New("there is an @ in the host or the name of the database: in the user and the password, " +
	"write @ as %40, / as %2F, : as %3A and ? as %3F, so that it is like " + likeDatabase)

// errUnread is for a text that is no URL, cannot be read, and may have a password anywhere.
var errUnread = errors.New("cannot parse it as a URL, or as keywords and values: want something like " + likeDatabase)

var maybeSecret = regexp.MustCompile(`(?i)@|password`)

// behindUser returns what stands in a URL behind the user and the password, in
// which pgx takes the first @ for their end: hosts and database, and the query.
// A text of keywords and values has neither.
func behindUser(text string) (rest, query string) {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		return "", ""
	}
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		rest = rest[i+1:]
	}
	rest, query, _ = strings.Cut(rest, "?")
	return rest, query
}

// foreignParameters are what Prisma and Vercel put into the URLs of Postgres databases.
var foreignParameters = []string{"pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size", "schema", "supa", "workaround"}

var pgbouncerWord = regexp.MustCompile(`(?:^|\s)pgbouncer\s*=\s*(\w+)(?:\s|$)`)

// databaseServers lists where a database URL leads to.
func databaseServers(text string) ([]server, error) {
	config, _, err := parseDatabase(text)
	if err != nil {
		return nil, err
	}
	return serversOf(&config.ConnConfig.Config), nil
}

// ofThisMachine refuses a database that is elsewhere: neither on loopback nor
// behind a unix socket. DATABASE_URL is set in many a shell, and not for amber,
// which migrates the database and lets everybody here use it.
func ofThisMachine(source string, servers []server) error {
	for _, s := range servers {
		if !s.local() {
			return fmt.Errorf("%s names %s: dev migrates its database and opens it to this machine. "+
				"Give --database-url to mean that, or unset %[1]s", source, s.host)
		}
	}
	return nil
}

// server is where a Postgres may be; host is a directory if it has a unix socket there.
type server struct {
	host string
	port uint16
}

// serversOf lists where a configuration leads to: pgx tries one after the other.
func serversOf(config *pgconn.Config) []server {
	servers := []server{{config.Host, config.Port}}
	for _, f := range config.Fallbacks { // the same again without TLS, for instance
		if s := (server{f.Host, f.Port}); !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	return servers
}

func (s server) local() bool {
	network, _ := pgconn.NetworkAddress(s.host, s.port)
	return network == "unix" || isLoopback(s.host)
}

func addresses(config *pgconn.Config) string {
	var texts []string
	for _, s := range serversOf(config) {
		_, address := pgconn.NetworkAddress(s.host, s.port)
		texts = append(texts, address)
	}
	return strings.Join(texts, " or ")
}

// isLoopback reports whether a host name or address is this machine's own.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
