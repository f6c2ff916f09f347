package keys_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/golang-jwt/jwt/v5"
)

// TestIdentifyPublic is the table of tokens that are signed with private keys,
// and of those that pretend to be.
func TestIdentifyPublic(t *testing.T) {
	t.Parallel()
	ec, ec2, wide, foreign := newEC(t, "ec", elliptic.P256()), newEC(t, "ec2", elliptic.P256()), newEC(t, "wide", elliptic.P384()), newEC(t, "ec", elliptic.P256())
	rsa := newRSA("rsa", 2048)
	nameless := newEC(t, "", elliptic.P256())
	set := func(list ...map[string]string) keys.Set {
		parsed, err := keys.ParseKeySet([]byte(keySet(list...)))
		if err != nil {
			t.Fatal(err)
		}
		return keys.Set{JWTSecret: "the secret of the project, which is long", Public: parsed}
	}
	all := set(ec.jwk(), ec2.jwk(), wide.jwk(), wide.jwk("kid", "lies", "crv", "P-384", "alg", "ES256"), rsa.jwk())
	es, rs, hs := jwt.SigningMethodES256, jwt.SigningMethodRS256, jwt.SigningMethodHS256
	user := ofUser()
	x509Key, err := x509.MarshalPKIXPublicKey(ec.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: x509Key})
	tampered := strings.Split(ec.token(t, es, user), ".")
	tampered[1] = strings.Split(signed(t, "x", map[string]any{"role": "service_role"}), ".")[1]
	const refused = keys.CodeAsymmetricJWT

	for _, tt := range []struct {
		name  string
		set   keys.Set
		token string
		role  string // who it is, or
		code  string // what is refused
	}{
		{"ES256", all, ec.token(t, es, user), "authenticated", ""},
		{"ES256 with the other key", all, ec2.token(t, es, user), "authenticated", ""},
		{"RS256", all, rsa.token(t, rs, user), "authenticated", ""},
		{"HS256 beside them", all, signed(t, all.JWTSecret, user), "authenticated", ""},
		{"service_role", all, ec.token(t, es, ofUser("role", "service_role")), "service_role", ""},
		{"role of no caller", all, rsa.token(t, rs, ofUser("role", "postgres")), "anon", ""},
		{"no kid, one key for it", all, signer{"", rsa.key}.token(t, rs, user), "authenticated", ""},
		{"no kid, one key in all", set(ec.jwk()), signer{"", ec.key}.token(t, es, user), "authenticated", ""},
		{"no kid, a key without one", set(nameless.jwk()), nameless.token(t, es, user), "authenticated", ""},
		{"a kid for two algorithms", set(ec.jwk("kid", "k"), rsa.jwk("kid", "k")), signer{"k", rsa.key}.token(t, rs, user), "authenticated", ""},
		{"alg of the key says so", set(ec.jwk("alg", "ES256")), ec.token(t, es, user), "authenticated", ""},

		{"no kid, two keys", all, signer{"", ec.key}.token(t, es, user), "", refused},
		{"no kid, the wrong one key", set(ec2.jwk()), signer{"", ec.key}.token(t, es, user), "", refused},
		{"unknown kid", all, signer{"nosuch", ec.key}.token(t, es, user), "", refused},
		{"kid for a key without one", set(nameless.jwk()), signer{"k", nameless.key}.token(t, es, user), "", refused},
		{"kid of the other key", all, signer{"ec2", ec.key}.token(t, es, user), "", refused},
		{"another project's key of that kid", all, foreign.token(t, es, user), "", refused},
		{"RS256 with the kid of an EC key", all, signer{"ec", rsa.key}.token(t, rs, user), "", refused},
		{"ES256 with the kid of an RSA key", all, signer{"rsa", ec.key}.token(t, es, user), "", refused},
		{"kid of a P-384 key", all, signer{"wide", ec.key}.token(t, es, user), "", refused},
		{"kid of a P-384 key that says ES256", all, signer{"lies", ec.key}.token(t, es, user), "", refused},
		{"key for another alg", set(rsa.jwk("alg", "RS512")), rsa.token(t, rs, user), "", refused},
		{"key for encryption", set(ec.jwk("use", "enc")), ec.token(t, es, user), "", refused},
		{"no public keys", keys.Set{JWTSecret: all.JWTSecret}, ec.token(t, es, user), "", refused},
		{"a set without keys", set(), ec.token(t, es, user), "", refused},
		{"tampered", all, strings.Join(tampered, "."), "", refused},
		{"without its signature", all, strings.Join(tampered[:2], ".") + ".", "", refused},
		{"expired", all, ec.token(t, es, ofUser("exp", time.Now().Add(-time.Minute).Unix())), "", refused},
		{"RS256 expired", all, rsa.token(t, rs, ofUser("exp", time.Now().Add(-time.Minute).Unix())), "", refused},
		{"not yet", all, ec.token(t, es, ofUser("nbf", time.Now().Add(time.Hour).Unix())), "", refused},
		{"exp 0", all, ec.token(t, es, ofUser("exp", 0)), "", refused},
		{"crit", all, headedBy(t, ec, map[string]any{"alg": "ES256", "kid": "ec", "crit": []string{"exp"}}, user), "", refused},
		{"crit of nothing", all, headedBy(t, ec, map[string]any{"alg": "ES256", "kid": "ec", "crit": nil}, user), "", refused},
		{"a header of any other name", all, ec.token(t, es, user, "CRIT", "exp"), "authenticated", ""},
		{"exp no number", all, ec.token(t, es, ofUser("exp", "never")), "", refused},

		// The public key as the secret, in each form that it comes in.
		{"HS256 with the PEM", all, sign(t, hs, pemKey, "ec", user), "", keys.CodeLegacyJWT},
		{"HS256 with the DER", all, sign(t, hs, x509Key, "ec", user), "", keys.CodeLegacyJWT},
		{"HS256 with x", all, sign(t, hs, []byte(ec.jwk()["x"]), "ec", user), "", keys.CodeLegacyJWT},
		{"HS256 with the modulus", all, sign(t, hs, []byte(rsa.jwk()["n"]), "rsa", user), "", keys.CodeLegacyJWT},
		{"HS256 without a secret", keys.Set{Public: all.Public}, sign(t, hs, []byte{0}, "", user), "", keys.CodeLegacyJWT},
		{"HS256 signature, header ES256", all, sign(t, hs, pemKey, "ec", user, "alg", "ES256"), "", refused},
		{"HS256 signature with the secret, header ES256", all, sign(t, hs, []byte(all.JWTSecret), "ec", user, "alg", "ES256"), "", refused},
		{"ES256 signature, header HS256", all, ec.token(t, es, user, "alg", "HS256"), "", keys.CodeLegacyJWT},
		{"RS256 signature, header ES256", all, rsa.token(t, rs, user, "alg", "ES256", "kid", "ec"), "", refused},
		{"none", all, ec.token(t, es, user, "alg", "none"), "", keys.CodeUnsupported},
		{"none, in capitals", all, ec.token(t, es, user, "alg", "NONE"), "", keys.CodeUnsupported},
		{"es256", all, ec.token(t, es, user, "alg", "es256"), "", keys.CodeUnsupported},
		{"ES384", all, wide.token(t, jwt.SigningMethodES384, user), "", keys.CodeUnsupported},
		{"RS512", all, rsa.token(t, jwt.SigningMethodRS512, user), "", keys.CodeUnsupported},
		{"PS256", all, rsa.token(t, jwt.SigningMethodPS256, user), "", keys.CodeUnsupported},
		{"two algs", all, twoAlgs(t, ec.token(t, es, user)), "", refused},
		{"kid no text", all, headed(t, `{"alg":"ES256","kid":7}`, ec.token(t, es, user)), "", keys.CodeAsymmetricJWT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for where, r := range map[string][2]string{"bearer": {"Bearer " + tt.token, ""}, "apikey": {"", tt.token}} {
				got, err := tt.set.Identify(request(r[0], r[1]))
				if tt.code != "" {
					var auth *keys.AuthError
					if !errors.As(err, &auth) || auth.Code != tt.code || got.Role != "" {
						t.Errorf("%s: Identify = %+v, %#v, want %s", where, got, err, tt.code)
					}
					continue
				}
				if err != nil || got.Role != tt.role || got.Owner != someone || got.Key != keys.KeyJWT {
					t.Errorf("%s: Identify = %+v, %v, want %s", where, got, err, tt.role)
				}
			}
		})
	}
}

// headedBy is an ES256 token that is signed with just this header.
func headedBy(t *testing.T, s signer, header, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(claims))
	token.Header = header
	text, err := token.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// headed gives a token another header.
func headed(t *testing.T, header, token string) string {
	t.Helper()
	_, rest, _ := strings.Cut(token, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + rest
}

// twoAlgs is a header in which readers of different strictness find different algorithms.
func twoAlgs(t *testing.T, token string) string {
	t.Helper()
	return headed(t, `{"alg":"none","kid":"ec","ALG":"ES256"}`, token)
}

// TestLocalSigningKey: what newer CLIs sign with counts on a local project, and nowhere else.
func TestLocalSigningKey(t *testing.T) {
	t.Parallel()
	local, ok := keys.Local().Public.(*keys.KeySet)
	if !ok || !local.Local() || local.String() != "ES256 b81269f1-21d8-4f2e-b719-c2240a840d90" {
		t.Errorf("Local: %v, %v", local, ok)
	}
	other, err := keys.ParseKeySet([]byte(keySet(newEC(t, "b81269f1-21d8-4f2e-b719-c2240a840d90", elliptic.P256()).jwk())))
	if err != nil || other.Local() {
		t.Errorf("a key of that name: %v, %v", other, err)
	}
}
