package keys

// Set is the API keys of a project. An empty field matches nothing.
type Set struct {
	JWTSecret      string // signs and verifies HS256 tokens
	AnonKey        string // a JWT with role anon
	ServiceRoleKey string // a JWT with role service_role
	PublishableKey string // opaque, sb_publishable_...: role anon
	SecretKey      string // opaque, sb_secret_...: role service_role

	Public PublicKeys // verify ES256 and RS256 tokens; nil verifies none
}

// The development keys of the Supabase CLI. They are public: harnesses and
// quick starts hard-code them, so the JWTs made from them must be the same to the byte.
const (
	localJWTSecret      = "super-secret-jwt-token-with-at-least-32-characters-long"
	localPublishableKey = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
	localSecretKey      = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
	localIssuer         = "supabase-demo"
	localExpiry         = 1983812996 // November 2032
)

// localPublic is the public part of the key that newer CLIs sign users' tokens with.
var localPublic = mustParse(`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"b81269f1-21d8-4f2e-b719-c2240a840d90",
	"x":"M5Sjqn5zwC9Kl1zVfUUGvv9boQjCGd45G8sdopBExB4","y":"P6IXMvA2WYXSHSOMTBH2jsw_9rrzGy89FjPf6oOsIxQ"}]}`)

// Local returns the keys that a local Supabase project has. Everyone knows
// them: they are for loopback only.
func Local() Set {
	return Set{
		JWTSecret:      localJWTSecret,
		AnonKey:        localKey(RoleAnon),
		ServiceRoleKey: localKey(RoleService),
		PublishableKey: localPublishableKey,
		SecretKey:      localSecretKey,
		Public:         localPublic,
	}
}

func mustParse(text string) *KeySet {
	set, err := ParseKeySet([]byte(text))
	if err != nil {
		panic(err) // a constant does not parse
	}
	return set
}

func localKey(role string) string {
	token, err := sign(localJWTSecret, &localClaims{Issuer: localIssuer, Role: role, Expiry: localExpiry})
	if err != nil {
		panic(err) // constants do not sign
	}
	return token
}
