package keys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// The roles that a caller can have.
const (
	RoleAnon          = "anon"
	RoleAuthenticated = "authenticated"
	RoleService       = "service_role"
)

// The kinds of credential: [Identity].Key.
const (
	KeyPublishable = "publishable"  // the project's opaque publishable key
	KeySecret      = "secret"       // the project's opaque secret key
	KeyAnon        = "anon"         // the project's anon JWT
	KeyServiceRole = "service_role" // the project's service_role JWT
	KeyJWT         = "jwt"          // any other token that the project signed
)

// Identity is who a caller proved to be.
type Identity struct {
	Role   string          // RoleAnon, RoleAuthenticated or RoleService
	Owner  string          // the claim sub, in lower case, when it is a uuid; else empty
	Claims json.RawMessage // the token's claims as they were signed; of an opaque key, its role
	Key    string          // the kind of credential, KeyJWT for instance; never the credential
}

// The codes of an [AuthError], which the gateway sends as sb-error-code.
const (
	CodeNoCredential  = "UNAUTHORIZED_NO_AUTH_HEADER"
	CodeInvalidFormat = "UNAUTHORIZED_INVALID_JWT_FORMAT"
	CodeLegacyJWT     = "UNAUTHORIZED_LEGACY_JWT"
	CodeAsymmetricJWT = "UNAUTHORIZED_ASYMMETRIC_JWT"
	CodeUnsupported   = "UNAUTHORIZED_UNSUPPORTED_TOKEN_ALGORITHM"
)

// AuthError says why a request was not let in: always a 401. Its text and code
// are Supabase's and fit for the caller.
type AuthError struct {
	Code    string
	Message string
}

func (e *AuthError) Error() string { return e.Message }

// ErrNoCredential is the [*AuthError] for a request that carries no credential at all.
var ErrNoCredential error = &AuthError{CodeNoCredential, "Missing authorization header"}

var (
	errFormat     = &AuthError{CodeInvalidFormat, "Invalid JWT format"}
	errLegacy     = &AuthError{CodeLegacyJWT, "Invalid JWT"}
	errAsymmetric = &AuthError{CodeAsymmetricJWT, "Invalid JWT"}
)

// Identify tells who sent a request, or returns an [*AuthError].
//
// The bearer token of Authorization counts, else the header apikey. Clients
// with an opaque key may send it in either or both; one in Authorization that
// is not this project's leaves the word to apikey.
//
// What a token says of its algorithm decides what it is verified with, and one
// kind of key never serves the other kind of algorithm: HS256 is for the JWT
// secret, ES256 and RS256 for a public key of that type.
//
// A token that names no role, or one that callers cannot have, is anon.
func (s Set) Identify(r *http.Request) (Identity, error) {
	authorization, apikey := r.Header.Get("Authorization"), r.Header.Get("Apikey")
	if authorization == "" {
		if apikey == "" {
			return Identity{}, ErrNoCredential
		}
		return s.identify(r.Context(), apikey)
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Identity{}, errFormat
	}
	identity, err := s.identify(r.Context(), token)
	if err != nil && apikey != "" && strings.HasPrefix(token, "sb_") {
		return s.identify(r.Context(), apikey)
	}
	return identity, err
}

func (s Set) identify(ctx context.Context, credential string) (Identity, error) {
	switch {
	case same(credential, s.SecretKey):
		return opaque(RoleService, KeySecret), nil
	case same(credential, s.PublishableKey):
		return opaque(RoleAnon, KeyPublishable), nil
	}
	alg, claims, err := decode(credential)
	if err != nil {
		return Identity{}, errFormat
	}
	switch {
	case same(credential, s.ServiceRoleKey):
		return known(RoleService, KeyServiceRole, claims)
	case same(credential, s.AnonKey):
		return known(RoleAnon, KeyAnon, claims)
	}
	switch alg {
	case "HS256":
		if verify(credential, claims, s.JWTSecret) != nil {
			return Identity{}, errLegacy
		}
		return bearer(claims), nil
	case "ES256", "RS256":
		if verifyPublic(ctx, credential, claims, s.Public) != nil {
			return Identity{}, errAsymmetric
		}
		return bearer(claims), nil
	}
	return Identity{}, &AuthError{CodeUnsupported, "Unsupported JWT algorithm " + printable(alg)}
}

// same compares without telling by its time where two keys differ. An unset
// key is the same as nothing.
func same(credential, key string) bool {
	a, b := sha256.Sum256([]byte(credential)), sha256.Sum256([]byte(key))
	return key != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func opaque(role, key string) Identity {
	return Identity{Role: role, Claims: json.RawMessage(`{"role":"` + role + `"}`), Key: key}
}

// known is for the project's own tokens, known to the letter: they count even
// where the project's secret is not at hand, but not after their time.
func known(role, key string, claims json.RawMessage) (Identity, error) {
	if validate(claims) != nil {
		return Identity{}, errLegacy
	}
	return Identity{Role: role, Claims: claims, Key: key}, nil
}

func bearer(claims json.RawMessage) Identity {
	var claim map[string]any // a struct would take "ROLE" for role
	_ = json.Unmarshal(claims, &claim)
	identity := Identity{Role: RoleAnon, Claims: claims, Key: KeyJWT}
	if role := claim["role"]; role == RoleAuthenticated || role == RoleService {
		identity.Role = role.(string)
	}
	if sub, ok := claim["sub"].(string); ok && uuidText.MatchString(sub) {
		identity.Owner = strings.ToLower(sub)
	}
	return identity
}

var uuidText = regexp.MustCompile(`^(?i)[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// printable bounds what a caller can have written back to it and to the log.
func printable(alg string) string {
	if len(alg) > 16 {
		alg = alg[:16]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, alg)
}
