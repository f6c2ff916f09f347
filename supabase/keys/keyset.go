package keys

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PublicKeys verify the tokens that a project signs with a private key: a
// [*KeySet] that is at hand, or [*FetchedKeys].
type PublicKeys interface {
	// find returns the key that a token's header means, nil if there is none.
	find(ctx context.Context, kid, alg string) crypto.PublicKey
}

// KeySet is what amber uses of a JSON Web Key Set (RFC 7517): its keys for
// ES256 and RS256. It does not change.
type KeySet struct {
	keys []publicKey
}

// publicKey is a key and the one algorithm that it is for: a token of another
// one does not find it, whatever the token says.
type publicKey struct {
	kid string // "" if it has none
	alg string // ES256 or RS256
	key crypto.PublicKey
}

// maxKeys is how many keys a set may have.
const maxKeys = 100

// KeySetError says what is wrong with the text of a key set. It shows nothing
// of a key but its kid.
type KeySetError struct {
	Line int // from 1
	Err  error
}

func (e *KeySetError) Error() string { return "line " + strconv.Itoa(e.Line) + ": " + e.Err.Error() }

func (e *KeySetError) Unwrap() error { return e.Err }

// ParseKeySet reads {"keys":[...]}, or the list alone, which is what the
// Supabase CLI keeps in the file of signing_keys_path. The private parts of keys
// are not read, and keys for something else than ES256 or RS256 are left out:
// the JWT secret, for instance. The error is a [*KeySetError].
func ParseKeySet(text []byte) (*KeySet, error) {
	list, err := listed(text)
	if err != nil {
		return nil, keySetError(text, 0, err)
	}
	if len(list) > maxKeys {
		return nil, keySetError(text, 0, fmt.Errorf("%d keys: want at most %d", len(list), maxKeys))
	}
	set, at := new(KeySet), 0
	for i, raw := range list {
		at += max(0, bytes.Index(text[at:], raw)) // where it stands: it is a part of the text
		key, err := parseJWK(raw)
		switch {
		case errors.Is(err, errOtherUse):
		case err != nil:
			return nil, keySetError(text, at, fmt.Errorf("key %d: %w", i+1, err))
		default:
			set.keys = append(set.keys, key)
		}
		at += len(raw)
	}
	return set, nil
}

// listed returns the keys of a set, or of a mere list.
func listed(text []byte) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		return list, json.Unmarshal(text, &list)
	}
	var set struct{ Keys *[]json.RawMessage }
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	if set.Keys == nil {
		return nil, errors.New(`no key set: want {"keys":[...]}`)
	}
	return *set.Keys, nil
}

// keySetError tells the line of an offset, or of the place that err names.
func keySetError(text []byte, at int, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at = min(int(syntax.Offset), len(text))
		err = errors.New("no JSON: " + syntax.Error())
	}
	return &KeySetError{Line: 1 + bytes.Count(text[:at], []byte("\n")), Err: err}
}

// find returns the key of the kid, or for a token that names none, the only key
// for its algorithm.
func (s *KeySet) find(_ context.Context, kid, alg string) crypto.PublicKey {
	if s == nil {
		return nil
	}
	var only crypto.PublicKey
	for _, k := range s.keys {
		switch {
		case k.alg != alg:
		case kid != "" && k.kid == kid:
			return k.key
		case kid == "" && only != nil:
			return nil // the token would have to say which one
		case kid == "":
			only = k.key
		}
	}
	return only
}

// Local reports whether the set has the key of every local Supabase project,
// whose private part everybody knows.
func (s *KeySet) Local() bool {
	local := localPublic.keys[0].key.(interface{ Equal(crypto.PublicKey) bool })
	for _, k := range s.keys {
		if local.Equal(k.key) {
			return true
		}
	}
	return false
}

// String lists the keys as algorithm and kid: "ES256 k1, RS256 k2".
func (s *KeySet) String() string {
	var list []string
	for _, k := range s.keys {
		list = append(list, strings.TrimSpace(k.alg+" "+k.kid))
	}
	if list == nil {
		return "none for ES256 or RS256"
	}
	return strings.Join(list, ", ")
}
