package wire

import (
	"context"

	"github.com/amberhost/amber/supabase/keys"
)

type callerKey struct{}

// WithCaller returns a context that says who sent the request.
func WithCaller(ctx context.Context, caller keys.Identity) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// Caller returns who sent the request; anon if the gateway did not say.
func Caller(ctx context.Context) keys.Identity {
	if caller, ok := ctx.Value(callerKey{}).(keys.Identity); ok {
		return caller
	}
	return keys.Identity{Role: keys.RoleAnon}
}
