package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signer is a project's private key.
type signer struct {
	kid string
	key crypto.Signer
}

func newEC(t *testing.T, kid string, curve elliptic.Curve) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, key}
}

// rsaKeys are made once: they take long.
var rsaKeys = sync.OnceValue(func() map[int]*rsa.PrivateKey {
	made := map[int]*rsa.PrivateKey{}
	for _, bits := range []int{1024, 2048} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		made[bits] = key
	}
	return made
})

func newRSA(kid string, bits int) signer { return signer{kid, rsaKeys()[bits]} }

// token is signed with s; the header is as s says, changed by some "name", "value".
func (s signer) token(t *testing.T, method jwt.SigningMethod, claims map[string]any, header ...string) string {
	t.Helper()
	return sign(t, method, s.key, s.kid, claims, header...)
}

func sign(t *testing.T, method jwt.SigningMethod, key any, kid string, claims map[string]any, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	if kid != "" {
		token.Header["kid"] = kid
	}
	for i := 0; i < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// jwk is the key as a project publishes it, changed by some "member", "value".
func (s signer) jwk(changes ...string) map[string]string {
	members := map[string]string{"use": "sig"}
	if s.kid != "" {
		members["kid"] = s.kid
	}
	switch key := s.key.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			panic(err)
		}
		half := (len(point) - 1) / 2
		maps.Copy(members, map[string]string{"kty": "EC", "crv": key.Curve.Params().Name, "x": encode(point[1 : 1+half]), "y": encode(point[1+half:])})
	case *rsa.PublicKey:
		maps.Copy(members, map[string]string{"kty": "RSA", "n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes())})
	}
	for i := 0; i < len(changes); i += 2 {
		members[changes[i]] = changes[i+1]
	}
	return members
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// keySet is the text of a set.
func keySet(keys ...map[string]string) string {
	text, err := json.MarshalIndent(map[string]any{"keys": append([]map[string]string{}, keys...)}, "", " ")
	if err != nil {
		panic(err)
	}
	return string(text)
}

const someone = "0190a1b2-0000-7000-8000-00000000000f"

// ofUser are the claims of a signed-in user.
func ofUser(more ...any) map[string]any {
	claims := map[string]any{"role": "authenticated", "sub": strings.ToUpper(someone), "exp": time.Now().Add(time.Hour).Unix()}
	for i := 0; i < len(more); i += 2 {
		claims[more[i].(string)] = more[i+1]
	}
	return claims
}
