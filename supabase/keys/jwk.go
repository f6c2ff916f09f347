package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// jwk has the public members of a JSON Web Key (RFC 7517, RFC 7518 section 6)
// of the types EC and RSA.
type jwk struct {
	Type      string `json:"kty"`
	ID        string `json:"kid"`
	Use       string `json:"use"` // "" or sig: for signatures
	Algorithm string `json:"alg"` // "": whichever the type is for
	Curve     string `json:"crv"`
	X, Y      string // of EC: the point, in base64url
	N, E      string // of RSA: modulus and exponent
}

// errOtherUse is for keys that no token which amber takes can be signed with.
var errOtherUse = errors.New("for another use than ES256 or RS256")

// The sizes of RSA keys, in bits: RFC 7518 wants no smaller one, and a larger
// one would cost its verifier too much.
const minRSA, maxRSA = 2048, 8192

func parseJWK(raw json.RawMessage) (publicKey, error) {
	var k jwk
	if err := json.Unmarshal(raw, &k); err != nil {
		return publicKey{}, errors.New("want an object of texts")
	}
	found := publicKey{kid: k.ID}
	var err error
	switch {
	case k.Type == "":
		return found, errors.New("it has no kty")
	case k.Use != "" && k.Use != "sig":
		return found, errOtherUse
	case k.Type == "EC" && k.Curve == "P-256" && (k.Algorithm == "" || k.Algorithm == "ES256"):
		found.alg = "ES256"
		found.key, err = k.ecdsa()
	case k.Type == "RSA" && (k.Algorithm == "" || k.Algorithm == "RS256"):
		found.alg = "RS256"
		found.key, err = k.rsa()
	default:
		return found, errOtherUse
	}
	if err != nil {
		return found, fmt.Errorf("kid %q: %w", k.ID, err)
	}
	return found, nil
}

// ecdsa returns the key if its point is one of the curve P-256.
func (k jwk) ecdsa() (crypto.PublicKey, error) {
	x, errX := member(k.X)
	y, errY := member(k.Y)
	if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
		return nil, errors.New("x and y: want 32 bytes each, in base64url")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errors.New("x and y are no point of P-256")
	}
	return key, nil
}

func (k jwk) rsa() (crypto.PublicKey, error) {
	n, errN := member(k.N)
	e, errE := member(k.E)
	if errN != nil || errE != nil || len(n) == 0 || len(e) == 0 {
		return nil, errors.New("n and e: want numbers, in base64url")
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n)}
	if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
		return nil, fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, minRSA, maxRSA)
	}
	if e = bytes.TrimLeft(e, "\x00"); len(e) < 4 {
		key.E = int(new(big.Int).SetBytes(e).Int64())
	}
	if key.E < 3 || key.E%2 == 0 {
		return nil, errors.New("e: want an odd number from 3 to 16777215")
	}
	return key, nil
}

// member reads base64url; RFC 7515 wants it without padding, and some write it with.
func member(text string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
}
