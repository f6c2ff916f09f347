// Package functions is the table of edge functions: which names there are under
// /functions/v1/, who may call them, and what answers; and the services that
// tasks reach as tools.<name>.
//
// A function is a package below this one, and one line in [Table]; a service is
// one line in [Services]. Function packages do not import each other; what they
// share is in functions/wire. What clients send and get, method by method, is
// written down as tables in this package's tests.
package functions

import (
	"log/slog"
	"maps"
	"net/http"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/functions/publish"
	"github.com/amberhost/amber/functions/quickjs"
	"github.com/amberhost/amber/functions/stackprocessor"
	"github.com/amberhost/amber/functions/tasks"
	"github.com/amberhost/amber/functions/wire"
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

	// Open reports whether whoever reaches the host may do anything that the
	// function of that name does; nil: of none. It is for Public functions that
	// keep some of what they do to service_role.
	Open func(function string) bool
}

// Table returns every edge function.
func Table(d Deps) []Function {
	runs := wire.Runs{Store: d.Store, Processor: d.Processor}
	log := func(name string) *slog.Logger { return d.Log.With("function", name) }
	return []Function{
		{"tasks", Public, tasks.New(runs, log("tasks"))},
		{"quickjs", Public, quickjs.New(quickjs.Config{ // it asks for more where code is given or a run is resumed
			Runs: runs, Engine: d.Engine, Services: reached(d), Open: d.Open != nil && d.Open("quickjs"), Log: log("quickjs")})},
		{"stack-processor", Service, stackprocessor.New(runs, log("stack-processor"))},
		{"publish", Service, publish.New(d.Store, d.Engine, log("publish"))},
	}
}

// reached are the names of all that tools has: services, and what the engine
// itself answers.
func reached(d Deps) []string {
	return append(slices.Sorted(maps.Keys(Services(d))), "sleep", "tasks")
}

// Services returns what tools.<name> reaches, by name.
func Services(d Deps) map[string]service.Service {
	return map[string]service.Service{
		"keystore": wrappedkeystore.New(d.Pool),
	}
}
