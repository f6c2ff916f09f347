package host

import (
	"context"
	"net/http"

	"github.com/amberhost/amber/functions"
)

// NewGateway is the gateway alone, for functions of the tests' own.
func NewGateway(c Config, table []functions.Function) http.Handler {
	return newGateway(c.withDefaults(), table, func(context.Context) map[string]string {
		return map[string]string{"status": "ok"}
	})
}
