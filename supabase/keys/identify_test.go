package keys_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/golang-jwt/jwt/v5"
)

// What quick starts and test suites hard-code.
const localAnonKey = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9.CRXP1A7WOeoJeXxjNni43kdQwgnWNReilDMblYTn_I0"

func TestLocalKeysAreTheCLIs(t *testing.T) {
	t.Parallel()
	set := keys.Local()
	if set.AnonKey != localAnonKey {
		t.Errorf("anon key %s, want %s", set.AnonKey, localAnonKey)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(set.ServiceRoleKey, ".")[1])
	if want := `{"iss":"supabase-demo","role":"service_role","exp":1983812996}`; err != nil || string(payload) != want {
		t.Errorf("service_role claims %s, %v, want %s", payload, err, want)
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	const uid = "0190A1B2-0000-7000-8000-00000000000F"
	set := keys.Local()
	token := func(claims map[string]any) string { return signed(t, set.JWTSecret, claims) }
	soon, past := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Minute).Unix()
	user := token(map[string]any{"role": "authenticated", "sub": uid, "exp": soon})

	for _, tt := range []struct {
		name, authorization, apikey string
		role, owner, key            string // what is identified, or
		code                        string // what is refused
	}{
		{name: "nothing", code: keys.CodeNoCredential},
		{name: "anon bearer", authorization: "Bearer " + set.AnonKey, role: "anon", key: keys.KeyAnon},
		{name: "anon apikey", apikey: set.AnonKey, role: "anon", key: keys.KeyAnon},
		{name: "service bearer", authorization: "Bearer " + set.ServiceRoleKey, role: "service_role", key: keys.KeyServiceRole},
		{name: "service apikey", apikey: set.ServiceRoleKey, role: "service_role", key: keys.KeyServiceRole},
		{name: "publishable apikey", apikey: set.PublishableKey, role: "anon", key: keys.KeyPublishable},
		{name: "publishable bearer", authorization: "Bearer " + set.PublishableKey, role: "anon", key: keys.KeyPublishable},
		{name: "secret apikey", apikey: set.SecretKey, role: "service_role", key: keys.KeySecret},
		{name: "secret bearer", authorization: "Bearer " + set.SecretKey, role: "service_role", key: keys.KeySecret},
		{name: "scheme in lower case", authorization: "bearer " + set.SecretKey, role: "service_role", key: keys.KeySecret},
		{name: "both the same", authorization: "Bearer " + set.PublishableKey, apikey: set.PublishableKey, role: "anon", key: keys.KeyPublishable},
		{name: "stale sb_ bearer, good apikey", authorization: "Bearer sb_publishable_old", apikey: set.SecretKey, role: "service_role", key: keys.KeySecret},
		{name: "user over apikey", authorization: "Bearer " + user, apikey: set.SecretKey, role: "authenticated", owner: strings.ToLower(uid), key: keys.KeyJWT},
		{name: "user as apikey", apikey: user, role: "authenticated", owner: strings.ToLower(uid), key: keys.KeyJWT},
		{name: "no exp", authorization: "Bearer " + token(map[string]any{"role": "service_role"}), role: "service_role", key: keys.KeyJWT},
		{name: "no role", authorization: "Bearer " + token(map[string]any{"sub": "bob"}), role: "anon", key: keys.KeyJWT},
		{name: "role of no caller", authorization: "Bearer " + token(map[string]any{"role": "postgres"}), role: "anon", key: keys.KeyJWT},
		{name: "role no string", authorization: "Bearer " + token(map[string]any{"role": []int{1}, "sub": 7}), role: "anon", key: keys.KeyJWT},
		{name: "role misspelt", authorization: "Bearer " + token(map[string]any{"ROLE": "service_role"}), role: "anon", key: keys.KeyJWT},

		{name: "literal your-anon-key", apikey: "your-anon-key", code: keys.CodeInvalidFormat},
		{name: "literal your-anon-key as bearer", authorization: "Bearer your-anon-key", apikey: set.SecretKey, code: keys.CodeInvalidFormat},
		{name: "unknown sb_", authorization: "Bearer sb_secret_guess", code: keys.CodeInvalidFormat},
		{name: "basic", authorization: "Basic dTpw", apikey: set.SecretKey, code: keys.CodeInvalidFormat},
		{name: "bearer of nothing", authorization: "Bearer ", code: keys.CodeInvalidFormat},
		{name: "no scheme", authorization: user, code: keys.CodeInvalidFormat},
		{name: "three words", authorization: "Bearer a.b.c", code: keys.CodeInvalidFormat},
		{name: "no alg", authorization: "Bearer " + unsigned(`{"typ":"JWT"}`), code: keys.CodeInvalidFormat},
		{name: "expired", authorization: "Bearer " + token(map[string]any{"role": "anon", "exp": past}), code: keys.CodeLegacyJWT},
		{name: "exp 0", authorization: "Bearer " + token(map[string]any{"role": "anon", "exp": 0}), code: keys.CodeLegacyJWT},
		{name: "exp nearly 0", authorization: "Bearer " + token(map[string]any{"role": "anon", "exp": json.RawMessage("-0e9")}), code: keys.CodeLegacyJWT},
		{name: "exp -1", authorization: "Bearer " + token(map[string]any{"role": "anon", "exp": -1}), code: keys.CodeLegacyJWT},
		{name: "crit", authorization: "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(set.JWTSecret), "", map[string]any{"role": "anon"}, "crit", "exp"), code: keys.CodeLegacyJWT},
		{name: "exp no number", authorization: "Bearer " + token(map[string]any{"role": "anon", "exp": "never"}), code: keys.CodeLegacyJWT},
		{name: "not yet", authorization: "Bearer " + token(map[string]any{"role": "anon", "nbf": soon}), code: keys.CodeLegacyJWT},
		{name: "other secret", authorization: "Bearer " + signed(t, "other", map[string]any{"role": "service_role"}), code: keys.CodeLegacyJWT},
		{name: "tampered", authorization: "Bearer " + user[:len(user)-4] + "AAAA", code: keys.CodeLegacyJWT},
		{name: "alg none", authorization: "Bearer " + unsigned(`{"alg":"none"}`), code: keys.CodeUnsupported},
		{name: "HS384", authorization: "Bearer " + unsigned(`{"alg":"HS384"}`), code: keys.CodeUnsupported},
		{name: "RS256", authorization: "Bearer " + signedRSA(t), code: keys.CodeAsymmetricJWT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := set.Identify(request(tt.authorization, tt.apikey))
			if tt.code != "" {
				var refused *keys.AuthError
				if !errors.As(err, &refused) || refused.Code != tt.code || got.Role != "" {
					t.Fatalf("Identify = %+v, %#v, want %s", got, err, tt.code)
				}
				return
			}
			if err != nil || got.Role != tt.role || got.Owner != tt.owner || got.Key != tt.key {
				t.Fatalf("Identify = %+v, %v, want %s %q %s", got, err, tt.role, tt.owner, tt.key)
			}
		})
	}
}

func TestIdentifyKeepsClaimsToTheByte(t *testing.T) {
	t.Parallel()
	set := keys.Local()
	got, err := set.Identify(request("Bearer "+localAnonKey, ""))
	if want := `{"iss":"supabase-demo","role":"anon","exp":1983812996}`; err != nil || string(got.Claims) != want {
		t.Errorf("claims %s, %v, want %s", got.Claims, err, want)
	}
	got, err = set.Identify(request("", set.SecretKey))
	if want := `{"role":"service_role"}`; err != nil || string(got.Claims) != want {
		t.Errorf("claims %s, %v, want %s", got.Claims, err, want)
	}
}

func TestIdentifyMessages(t *testing.T) {
	t.Parallel()
	set := keys.Local()
	for authorization, want := range map[string]string{
		"":                                     "Missing authorization header",
		"Bearer x":                             "Invalid JWT format",
		"Bearer " + unsigned(`{"alg":"none"}`): "Unsupported JWT algorithm none",
		"Bearer " + unsigned(`{"alg":"`+strings.Repeat("\u00fc", 99)+`"}`): "Unsupported JWT algorithm ????????",
		"Bearer " + signedRSA(t): "Invalid JWT",
	} {
		if _, err := set.Identify(request(authorization, "")); err == nil || err.Error() != want {
			t.Errorf("%.30s: %v, want %q", authorization, err, want)
		}
	}
	if _, err := set.Identify(request("", "")); !errors.Is(err, keys.ErrNoCredential) {
		t.Errorf("no credential: %v", err)
	}
}

func TestIdentifyWithKeysUnset(t *testing.T) {
	t.Parallel()
	var none keys.Set
	for _, credential := range []string{localAnonKey, keys.Local().SecretKey, unsigned(`{"alg":"HS256"}`)} {
		if got, err := none.Identify(request("Bearer "+credential, "")); err == nil {
			t.Errorf("%.20s: an empty set let in %+v", credential, got)
		}
	}
	if _, err := keys.SignJWT("", nil); err == nil {
		t.Error("signed with an empty secret")
	}
}

func TestIdentifyKnownTokensWithoutTheSecret(t *testing.T) {
	t.Parallel()
	for _, exp := range []int{0, 1} {
		past := signed(t, "elsewhere", map[string]any{"role": "service_role", "exp": exp})
		set := keys.Set{AnonKey: localAnonKey, ServiceRoleKey: past}
		if got, err := set.Identify(request("", localAnonKey)); err != nil || got.Role != keys.RoleAnon {
			t.Errorf("Identify = %+v, %v, want anon", got, err)
		}
		if got, err := set.Identify(request("", past)); err == nil {
			t.Errorf("an expired key let in %+v", got)
		}
	}
}

func request(authorization, apikey string) *http.Request {
	r := &http.Request{Header: http.Header{}}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	if apikey != "" {
		r.Header.Set("apikey", apikey)
	}
	return r
}

func signed(t *testing.T, secret string, claims map[string]any) string {
	t.Helper()
	token, err := keys.SignJWT(secret, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func signedRSA(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"role": "service_role"}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func unsigned(header string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(`{"role":"service_role"}`)) + "."
}
