package host

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"github.com/amberhost/amber/functions"
)

// NewGateway is the gateway alone, for functions of the tests' own.
func NewGateway(c Config, table []functions.Function) http.Handler {
	return newGateway(c.withDefaults(), table, func(context.Context) map[string]string {
		return map[string]string{"status": "ok"}
	})
}

// ServeGateway serves [NewGateway] under the limits of c until the server is closed.
func ServeGateway(c Config, table []functions.Function, listener net.Listener) *http.Server {
	c = c.withDefaults()
	server := &http.Server{Handler: NewGateway(c, table), ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn)}
	c.Limits.apply(server)
	go server.Serve(c.Limits.listener(listener))
	return server
}

// Bounded is the logger that a host makes of the one it is given.
func Bounded(log *slog.Logger) *slog.Logger { return bounded(log) }
