// Package functions is the table of edge functions: which names there are under
// /functions/v1/, who may call them, and what answers; and the services that
// tasks reach as tools.<name>.
//
// A function is a package below this one, and one line in [Table]; a service is
// one line in [Services]. Function packages do not import each other; what they
// share is in functions/wire.
package functions

import (
	"log/slog"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/functions/publish"
	"github.com/amberhost/amber/functions/tasks"
	"github.com/amberhost/amber/functions/wrappedkeystore"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// Access says who may call a function.
type Access int

const (
	Public  Access = iota // whoever may reach the gateway
	Service               // service_role only, unless the host is open: it runs given code or acts as service_role
)

// Function is an edge function.
type Function struct {
	Name    string       // the first segment after /functions/v1/
	Access  Access       // checked by the gateway
	Handler http.Handler // sees the path without /functions/v1, as Supabase's functions do
}

// Deps are what functions and services work on.
type Deps struct {
	Store     *stack.Store
	Processor *stack.Processor // not needed by Services
	Engine    *vm.Engine
	Pool      *pgxpool.Pool
	Log       *slog.Logger
}

// Table returns every edge function.
func Table(d Deps) []Function {
	return []Function{
		{"tasks", Public, tasks.New(d.Store, d.Processor, d.Log.With("function", "tasks"))},
		{"publish", Service, publish.New(d.Store, d.Engine, d.Log.With("function", "publish"))},
	}
}

// Services returns what tools.<name> reaches, by name.
func Services(d Deps) map[string]service.Service {
	return map[string]service.Service{
		"keystore": wrappedkeystore.New(d.Pool),
	}
}
