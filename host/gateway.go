package host

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/supabase/keys"
)

// prefix is where functions are; they see paths without it.
const prefix = "/functions/v1"

// gateway is what a request passes before it reaches a function: request id,
// log and panics (requestlog.go), CORS (cors.go), keys (access.go), limits
// (limits.go), compression (compress.go).
//
// It trusts no header about where a request came from or by which name the host
// was called (X-Forwarded-For and the like): none of them decides who may do what.
type gateway struct {
	functions map[string]functions.Function
	pages     map[string]http.HandlerFunc // what is there besides functions, by path
	keys      keys.Set
	moreKeys  []keys.Set      // that count too
	keyless   sync.Once       // see warnKeyless
	free      map[string]bool // functions that ask for no key
	open      bool
	bodyLimit int64
	inFlight  atomic.Int64 // bytes of large bodies, see metered
	limits    Limits
	health    func(context.Context) map[string]string // status and why
	log       *slog.Logger
}

func newGateway(c Config, table []functions.Function, health func(context.Context) map[string]string) *gateway {
	g := &gateway{
		functions: make(map[string]functions.Function, len(table)),
		keys:      c.projectKeys(),
		moreKeys:  c.MoreKeys,
		free:      map[string]bool{},
		open:      c.Open,
		bodyLimit: c.BodyLimit,
		limits:    c.Limits,
		health:    health,
		log:       c.Log,
	}
	g.pages = map[string]http.HandlerFunc{"/": g.index, "/health": g.serveHealth}
	for _, f := range table {
		said := c.function(f.Name)
		if said.Disabled {
			continue
		}
		g.free[f.Name] = said.Open
		f.Handler = compressed(f.Handler)
		g.functions[f.Name] = f
	}
	return g
}

// ServeHTTP implements [http.Handler].
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.logged(w, r, func(w http.ResponseWriter, r *http.Request) {
		allowOrigins(w.Header())
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Served-By", "amber")
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Max-Age", "86400")
			w = &preflight{ResponseWriter: w}
		}
		g.route(w, r)
	})
}

func (g *gateway) route(w http.ResponseWriter, r *http.Request) {
	if refused := inBounds(r); refused != nil {
		refuse(w, *refused)
		return
	}
	if refused := known(r.Method); refused != nil {
		w.Header().Set("Allow", allowedMethods)
		refuse(w, *refused)
		return
	}
	if page, ok := g.pages[r.URL.Path]; ok {
		g.show(page, w, r)
		return
	}
	name, ok := functionName(r.URL)
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
		defer release(r)
		http.StripPrefix(prefix, f.Handler).ServeHTTP(w, r)
	}
}

// known refuses the methods that no function has.
func known(method string) *refusal {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return nil
	}
	return &refusal{Status: http.StatusMethodNotAllowed, Code: wire.CodeMethodNotAllowed,
		Message: "No function has this method: call it with one of " + allowedMethods}
}

// functionName returns the segment after the prefix. A path is what it says:
// dots and double slashes in it mean nothing, and the prefix cannot be escaped.
func functionName(u *url.URL) (name string, ok bool) {
	rest, ok := strings.CutPrefix(u.Path, prefix+"/")
	name, _, _ = strings.Cut(rest, "/")
	return name, ok && strings.HasPrefix(u.EscapedPath(), prefix+"/")
}

// show answers with a page, which is only to be looked at.
func (g *gateway) show(page http.HandlerFunc, w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		page(w, r)
		return
	}
	const allowed = "GET, HEAD, OPTIONS"
	w.Header().Set("Allow", allowed)
	refuse(w, refusal{Status: http.StatusMethodNotAllowed, Code: wire.CodeMethodNotAllowed,
		Message: "There is nothing to do here: use one of " + allowed})
}

// index says what this is to whoever opens the URL in a browser.
func (g *gateway) index(w http.ResponseWriter, _ *http.Request) {
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
