package keys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// SignJWT returns an HS256 token with these claims.
func SignJWT(secret string, claims map[string]any) (string, error) {
	return sign(secret, jwt.MapClaims(claims))
}

func sign(secret string, claims jwt.Claims) (string, error) {
	if secret == "" {
		return "", errors.New("sign token: the secret is empty")
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// localClaims keeps the order of the claims in the CLI's development keys,
// which a map would sort.
type localClaims struct {
	jwt.Claims `json:"-"` // never validated

	Issuer string `json:"iss"`
	Role   string `json:"role"`
	Expiry int64  `json:"exp"`
}

var (
	verifier   = jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}))
	asymmetric = jwt.NewParser(jwt.WithValidMethods([]string{"ES256", "RS256"}))
	validator  = jwt.NewValidator()
)

// verify checks an HS256 token's signature and times.
func verify(token string, claims json.RawMessage, secret string) error {
	if secret == "" {
		return errors.New("no secret to verify with")
	}
	if err := validate(claims); err != nil {
		return err
	}
	_, err := verifier.Parse(token, func(t *jwt.Token) (any, error) { return []byte(secret), understood(t) })
	return err
}

// understood refuses a token whose header has crit, which names what a reader
// must understand to take it (RFC 7515, section 4.1.11): amber understands none of that.
func understood(t *jwt.Token) error {
	if _, ok := t.Header["crit"]; ok {
		return errors.New("crit names what is not understood")
	}
	return nil
}

// verifyPublic checks an ES256 or RS256 token's signature and times. A token that
// is over needs no key: keys may have to be fetched.
func verifyPublic(ctx context.Context, token string, claims json.RawMessage, keys PublicKeys) error {
	if keys == nil {
		return errors.New("no public keys to verify with")
	}
	if err := validate(claims); err != nil {
		return err
	}
	_, err := asymmetric.Parse(token, func(t *jwt.Token) (any, error) {
		if err := understood(t); err != nil {
			return nil, err // before a key is fetched
		}
		kid, ok := t.Header["kid"].(string)
		if t.Header["kid"] != nil && !ok {
			return nil, errors.New("kid is no text")
		}
		if key := keys.find(ctx, kid, t.Method.Alg()); key != nil {
			return key, nil
		}
		return nil, errors.New("no such key")
	})
	return err
}

// validate checks a token's times alone: all there is to check of a token that is
// known to the letter. An exp of 0 is a time, long past; the library takes it for none.
func validate(payload json.RawMessage) error {
	var claims jwt.MapClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err
	}
	if claims["exp"] == 0.0 {
		return jwt.ErrTokenExpired
	}
	return validator.Validate(claims)
}

// decode splits a token into its alg and its payload, and believes neither.
func decode(token string) (alg string, payload json.RawMessage, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", nil, errors.New("not three parts")
	}
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return "", nil, err
	}
	var header struct {
		Alg string `json:"alg"`
	}
	if err := json.Unmarshal(head, &header); err != nil {
		return "", nil, err
	}
	if header.Alg == "" {
		return "", nil, errors.New("no alg")
	}
	if payload, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil {
		return "", nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(payload, &object); err != nil || object == nil {
		return "", nil, errors.New("payload is no object")
	}
	return header.Alg, payload, nil
}
