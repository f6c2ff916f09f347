package host

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ofThisMachine refuses a DATABASE_URL that leads elsewhere: not to loopback
// nor to a unix socket.
func ofThisMachine(url string) error {
	config, err := pgxpool.ParseConfig(url) // its errors show no password
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	for _, s := range serversOf(&config.ConnConfig.Config) {
		if !s.local() {
			return fmt.Errorf("DATABASE_URL names %s: dev migrates its database and opens it to this machine. "+
				"Give --database-url to mean that, or unset DATABASE_URL", s.host)
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
