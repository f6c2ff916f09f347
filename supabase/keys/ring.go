package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// KeySize is the length in bytes of a key in a [Ring]: AES-256.
const KeySize = 32

var (
	// ErrUnknownKey says that something was sealed with a key that the ring does not hold.
	ErrUnknownKey = errors.New("keys: unknown key")
	// ErrForged says that sealed bytes or their associated data are not what was sealed,
	// or not with the key that has the id here.
	ErrForged = errors.New("keys: sealed with another key of that id, or damaged")
)

// Ring encrypts and authenticates with AES-256-GCM. Its first key seals, all of
// them open: to rotate, put a new key in front, and drop an old one when
// nothing that it sealed is left.
//
// Nonces are random, 96 bits: one key should seal no more than 2³² times.
// A Ring does not change and is safe for concurrent use.
type Ring struct {
	keys []ringKey
}

type ringKey struct {
	id   string
	aead cipher.AEAD
}

var validKeyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// ParseRing reads a ring as AMBER_KEYS spells it: "id:base64,id:base64", each
// key 32 bytes in standard base64. Its errors name an entry by its place alone,
// so that they are fit for a log whatever was mistyped.
func ParseRing(s string) (*Ring, error) {
	r := new(Ring)
	for i, text := range strings.Split(s, ",") {
		key, err := parseKey(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("parse keys: entry %d: %w", i+1, err)
		}
		if _, ok := r.find(key.id); ok {
			return nil, fmt.Errorf("parse keys: entry %d: an earlier entry has the same id", i+1)
		}
		r.keys = append(r.keys, key)
	}
	return r, nil
}

// NewKey returns a fresh random key as one entry of a ring.
func NewKey(id string) (string, error) {
	if !validKeyID.MatchString(id) {
		return "", fmt.Errorf("new key: id %q: want 1 to 32 letters, digits, - or _", id)
	}
	key := make([]byte, KeySize)
	rand.Read(key) // never fails
	return id + ":" + base64.StdEncoding.EncodeToString(key), nil
}

// Writer returns the id of the key that seals, "" for an empty ring.
func (r *Ring) Writer() string {
	if r == nil || len(r.keys) == 0 {
		return ""
	}
	return r.keys[0].id
}

// IDs returns the ids of the keys, the one that seals first.
func (r *Ring) IDs() []string {
	if r == nil {
		return nil
	}
	ids := make([]string, len(r.keys))
	for i, key := range r.keys {
		ids[i] = key.id
	}
	return ids
}

// Seal encrypts plaintext and binds ad, the associated data, to it. It returns
// the id of the key it used, which Open needs, and the nonce and ciphertext.
func (r *Ring) Seal(plaintext, ad []byte) (keyID string, sealed []byte, err error) {
	if r == nil || len(r.keys) == 0 {
		return "", nil, errors.New("seal: the ring has no key")
	}
	key := r.keys[0]
	return key.id, key.aead.Seal(nil, nil, plaintext, ad), nil
}

// Open decrypts what Seal returned. Its error is [ErrUnknownKey] or [ErrForged].
func (r *Ring) Open(keyID string, sealed, ad []byte) ([]byte, error) {
	key, ok := r.find(keyID)
	if !ok {
		return nil, fmt.Errorf("open with key %q: %w", keyID, ErrUnknownKey)
	}
	plaintext, err := key.aead.Open(nil, nil, sealed, ad)
	if err != nil {
		return nil, fmt.Errorf("open with key %q: %w", keyID, ErrForged)
	}
	return plaintext, nil
}

// String lists the ids of the keys, never the keys.
func (r *Ring) String() string {
	if r == nil {
		return "keys.Ring()"
	}
	return "keys.Ring(" + strings.Join(r.IDs(), ",") + ")"
}

func (r *Ring) find(id string) (ringKey, bool) {
	if r != nil {
		for _, key := range r.keys {
			if key.id == id {
				return key, true
			}
		}
	}
	return ringKey{}, false
}

func parseKey(text string) (ringKey, error) {
	if text == "" {
		return ringKey{}, errors.New("is empty: want id:base64")
	}
	id, encoded, ok := strings.Cut(text, ":")
	if !ok {
		return ringKey{}, errors.New("has no colon: want id:base64")
	}
	if !validKeyID.MatchString(id) {
		return ringKey{}, errors.New("id: want 1 to 32 letters, digits, - or _")
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ringKey{}, errors.New("key: not standard base64")
	}
	if len(key) != KeySize {
		return ringKey{}, fmt.Errorf("key: %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return ringKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return ringKey{}, err
	}
	return ringKey{id: id, aead: aead}, nil
}
