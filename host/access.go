package host

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/supabase"
	"github.com/amberhost/amber/supabase/keys"
)

// admit says who sent a request and whether they may call the function.
func (g *gateway) admit(f functions.Function, r *http.Request) (keys.Identity, *refusal) {
	if r.Method == http.MethodOptions { // browsers send no key with it
		return keys.Identity{Role: keys.RoleAnon}, nil
	}
	if g.open && fromElsewhere(r) {
		return keys.Identity{}, &refusal{Status: http.StatusForbidden, Code: "FOREIGN_ORIGIN",
			Message: "This host is open to this machine, and to its own pages only: neither Origin nor Host may name another"}
	}
	free := g.open || g.free[f.Name]
	caller, err := g.identify(r)
	switch {
	case err != nil && free:
		return keys.Identity{Role: keys.RoleAnon}, nil
	case err != nil:
		return caller, unauthorized(err)
	case free || f.Access != functions.Service || caller.Role == keys.RoleService:
		return caller, nil
	}
	return caller, &refusal{Status: http.StatusForbidden, Code: wire.CodeForbidden,
		Message: "The function " + f.Name + " needs the service role key or a secret key"}
}

// identify tells who sent a request by any of the host's keys. What is wrong with
// a credential is said by the first of them.
func (g *gateway) identify(r *http.Request) (keys.Identity, error) {
	caller, err := g.keys.Identify(r)
	for i := 0; err != nil && i < len(g.moreKeys); i++ {
		if other, wrong := g.moreKeys[i].Identify(r); wrong == nil {
			return other, nil
		}
	}
	g.warnKeyless(err)
	return caller, err
}

// warnKeyless says once that tokens come which this host cannot verify: their
// senders hear no more than that they are invalid.
func (g *gateway) warnKeyless(err error) {
	var refused *keys.AuthError
	if g.keys.Public != nil || !errors.As(err, &refused) || refused.Code != keys.CodeAsymmetricJWT {
		return
	}
	g.keyless.Do(func() {
		g.log.Warn("a caller has a token that is signed with ES256 or RS256, and this host has no public keys of the project: " +
			"set SUPABASE_URL to fetch them, or SUPABASE_JWKS")
	})
}

// function is what the project's config.toml says of a function.
func (c Config) function(name string) supabase.Function {
	for _, f := range c.Functions {
		if f.Name == name {
			return f
		}
	}
	return supabase.Function{Name: name}
}

func unauthorized(err error) *refusal {
	refused := &refusal{Status: http.StatusUnauthorized, Code: keys.CodeInvalidFormat, Message: "Invalid JWT format"}
	var auth *keys.AuthError
	if errors.As(err, &auth) {
		refused.Code, refused.Message = auth.Code, auth.Message
	}
	return refused
}

// fromElsewhere reports whether a web page that is not this machine's sent the
// request, or one that reached this machine under another name. An open host
// would else let any page that its developer visits publish and run code: its
// keys are the public ones of Supabase's local stack.
func fromElsewhere(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host != "" && !isLoopback(strings.Trim(host, "[]")) {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || !isLoopback(u.Hostname())
}
