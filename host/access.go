package host

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/supabase/keys"
)

// admit says who sent a request and whether they may call the function.
func (g *gateway) admit(f functions.Function, r *http.Request) (keys.Identity, *refusal) {
	if r.Method == http.MethodOptions { // browsers send no key with it
		return keys.Identity{Role: keys.RoleAnon}, nil
	}
	caller, err := g.keys.Identify(r)
	switch {
	case err != nil && g.open:
		caller = keys.Identity{Role: keys.RoleAnon}
	case err != nil:
		return caller, unauthorized(err)
	}
	if f.Access != functions.Service || caller.Role == keys.RoleService {
		return caller, nil
	}
	if g.open && !fromForeignPage(r) {
		return caller, nil
	}
	return caller, &refusal{Status: http.StatusForbidden, Code: "FORBIDDEN",
		Message: "The function " + f.Name + " needs the service role key or a secret key"}
}

func unauthorized(err error) *refusal {
	refused := &refusal{Status: http.StatusUnauthorized, Code: keys.CodeInvalidFormat, Message: "Invalid JWT format"}
	var auth *keys.AuthError
	if errors.As(err, &auth) {
		refused.Code, refused.Message = auth.Code, auth.Message
	}
	return refused
}

// fromForeignPage reports whether a web page that is not this machine's sent
// the request. An open host would else let any page that its developer visits
// publish code.
func fromForeignPage(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil {
		return true
	}
	return !isLoopback(u.Hostname())
}
