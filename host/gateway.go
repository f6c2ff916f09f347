package host

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/supabase/keys"
)

// prefix is where functions are; they see paths without it.
const prefix = "/functions/v1"

// gateway is what a request passes before it reaches a function: request id,
// log and panics (requestlog.go), CORS (cors.go), keys (access.go), limits (limits.go).
type gateway struct {
	functions map[string]functions.Function
	keys      keys.Set
	open      bool
	bodyLimit int64
	health    func(context.Context) map[string]string // status and why
	log       *slog.Logger
}

func newGateway(c Config, table []functions.Function, health func(context.Context) map[string]string) *gateway {
	g := &gateway{
		functions: make(map[string]functions.Function, len(table)),
		keys:      c.Keys,
		open:      c.Open,
		bodyLimit: c.BodyLimit,
		health:    health,
		log:       c.Log,
	}
	for _, f := range table {
		g.functions[f.Name] = f
	}
	return g
}

// ServeHTTP implements [http.Handler].
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.logged(w, r, func(w http.ResponseWriter, r *http.Request) {
		allowOrigins(w.Header())
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Max-Age", "86400")
			w = &preflight{ResponseWriter: w}
		}
		g.route(w, r)
	})
}

func (g *gateway) route(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		g.index(w)
		return
	case "/health":
		g.serveHealth(w, r)
		return
	}
	name, ok := functionName(r.URL.Path)
	f, found := g.functions[name]
	if !ok || !found {
		refuse(w, refusal{Status: http.StatusNotFound, Code: "NOT_FOUND", Message: "Requested function was not found"})
		return
	}
	caller, refused := g.admit(f, r)
	if refused != nil {
		refuse(w, *refused)
		return
	}
	r = r.WithContext(wire.WithCaller(r.Context(), caller))
	if g.limit(w, r) {
		http.StripPrefix(prefix, f.Handler).ServeHTTP(w, r)
	}
}

func functionName(path string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, prefix+"/")
	name, _, _ = strings.Cut(rest, "/")
	return name, ok
}

// index says what this is to whoever opens the URL in a browser.
func (g *gateway) index(w http.ResponseWriter) {
	names := make(map[string]string, len(g.functions))
	for name := range g.functions {
		names[name] = prefix + "/" + name
	}
	wire.JSON(w, http.StatusOK, struct {
		Name        string            `json:"name"`
		Description string            `json:"description"`
		Functions   map[string]string `json:"functions"`
		Health      string            `json:"health"`
		Try         string            `json:"try"`
	}{
		Name:        "amber",
		Description: "Runs JavaScript tasks that may wait for anything, for any time. This is its API.",
		Functions:   names,
		Health:      "/health",
		Try:         "GET " + prefix + "/tasks/list",
	})
}

func (g *gateway) serveHealth(w http.ResponseWriter, r *http.Request) {
	state := g.health(r.Context())
	status := http.StatusOK
	if state["status"] != "ok" {
		status = http.StatusServiceUnavailable
	}
	wire.JSON(w, status, state)
}

// refusal is an error that the gateway itself answers with: the fields of
// Supabase's gateway (msg is its deprecated copy of message) and the functions' error.
type refusal struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Msg     string `json:"msg"`
	Error   string `json:"error"`
}

func refuse(w http.ResponseWriter, r refusal) {
	r.Msg, r.Error = r.Message, r.Message
	w.Header().Set("sb-error-code", r.Code)
	wire.JSON(w, r.Status, r)
}
