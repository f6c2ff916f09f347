// Package keys holds what amber trusts: the API keys of a Supabase project,
// with which callers say who they are ([Set]), and amber's own keys, with which
// it encrypts what it keeps in the database ([Ring]).
package keys
