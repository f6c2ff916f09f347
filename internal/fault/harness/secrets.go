package harness

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/amberhost/amber/supabase/keys"
)

// rings is how many keys there are in the end: hosts that start later know more.
const rings = 8

// secrets are what hosts know and nobody else may. Keys are rotated while hosts
// run, as amber wants it: a new one is known to the lives that begin after it, and
// seals only in those that begin after the next.
type secrets struct {
	keys       []string // base64
	jwtSecret  string
	serviceKey string

	mu    sync.Mutex
	known int // how many keys hosts know that start now
}

func newSecrets() (*secrets, error) {
	secret := make([]byte, 32)
	s := &secrets{known: 3}
	for range rings {
		rand.Read(secret) // never fails
		s.keys = append(s.keys, base64.StdEncoding.EncodeToString(secret))
	}
	rand.Read(secret)
	s.jwtSecret = hex.EncodeToString(secret)
	var err error
	s.serviceKey, err = keys.SignJWT(s.jwtSecret, map[string]any{"role": "service_role", "iss": "amber", "exp": time.Now().Add(24 * time.Hour).Unix()})
	return s, err
}

// know has hosts that start from now on know that many keys, and says whether they
// knew fewer.
func (s *secrets) know(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = min(n, rings); n <= s.known {
		return false
	}
	s.known = n
	return true
}

// ring is the keys of host n if it starts now: half of the hosts seal with the
// one before the newest, half with the one before that.
func (s *secrets) ring(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list(s.known, s.known-2-n%2)
}

// whole is the ring of all keys that there will ever be; it seals with the first.
func (s *secrets) whole() string { return s.list(rings, 0) }

// list is the ring of the first n keys that seals with the one of that number.
func (s *secrets) list(n, first int) string {
	entry := func(i int) string { return fmt.Sprintf("key%d:%s", i, s.keys[i]) }
	entries := []string{entry(first)}
	for i := range n {
		if i != first {
			entries = append(entries, entry(i))
		}
	}
	return strings.Join(entries, ",")
}

// all are the secrets as the auditor looks for them.
func (s *secrets) all(d *database) map[string][]byte {
	all := map[string][]byte{"SUPABASE_JWT_SECRET": []byte(s.jwtSecret), "service key": []byte(s.serviceKey), "database password": []byte(d.password)}
	for i, text := range s.keys {
		all[fmt.Sprintf("AMBER_KEYS, key%d", i)], _ = base64.StdEncoding.DecodeString(text)
	}
	return all
}
