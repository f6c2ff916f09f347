package host

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/amberhost/amber/supabase/keys"
)

// leastSecret is the shortest secret that the Supabase CLI takes.
const leastSecret = 16

func takeJWTSecret(c *Config, g given) error {
	if len(g.text) < leastSecret {
		return g.errorf("the secret is too short: want at least %d characters", leastSecret)
	}
	c.Keys.JWTSecret = g.text
	return nil
}

// takeAnonKey takes the token, or the opaque key that newer projects have in its place.
func takeAnonKey(c *Config, g given) error {
	if strings.HasPrefix(g.text, "sb_") {
		return takePublishable(c, g)
	}
	c.Keys.AnonKey = g.text
	return g.wantRole(keys.RoleAnon)
}

func takeServiceRoleKey(c *Config, g given) error {
	if strings.HasPrefix(g.text, "sb_") {
		return takeSecret(c, g)
	}
	c.Keys.ServiceRoleKey = g.text
	return g.wantRole(keys.RoleService)
}

// wantRole refuses a token of another role: with the keys mixed up, everybody
// who has the public one could do everything.
func (g given) wantRole(want string) error {
	parts := strings.Split(g.text, ".")
	if len(parts) != 3 {
		return g.errorf("is neither a JWT nor an opaque key (sb_...)")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return g.errorf("is not a JWT: its claims cannot be read")
	}
	if role := claims["role"]; role != want {
		return g.errorf("is the key of the role %v: want that of %s", role, want)
	}
	return nil
}

func takePublishable(c *Config, g given) error {
	list, err := g.opaque("sb_publishable_")
	for _, key := range list {
		if c.Keys.PublishableKey == "" {
			c.Keys.PublishableKey = key
			continue
		}
		c.MoreKeys = append(c.MoreKeys, keys.Set{PublishableKey: key})
	}
	return err
}

func takeSecret(c *Config, g given) error {
	list, err := g.opaque("sb_secret_")
	for _, key := range list {
		if c.Keys.SecretKey == "" {
			c.Keys.SecretKey = key
			continue
		}
		c.MoreKeys = append(c.MoreKeys, keys.Set{SecretKey: key})
	}
	return err
}

// opaque reads one key, several with commas between them, or Supabase's map of
// names to keys, of which the one called default is first.
func (g given) opaque(prefix string) ([]string, error) {
	list := strings.Split(g.text, ",")
	if strings.HasPrefix(strings.TrimSpace(g.text), "{") {
		var named map[string]string
		if err := json.Unmarshal([]byte(g.text), &named); err != nil {
			return nil, g.errorf(`is not a map of names to keys: want {"default":"%s..."}`, prefix)
		}
		list = nil
		if key, ok := named["default"]; ok {
			list = append(list, key)
			delete(named, "default")
		}
		for _, name := range slices.Sorted(maps.Keys(named)) {
			list = append(list, named[name])
		}
	}
	for i, key := range list {
		list[i] = strings.TrimSpace(key)
		if !strings.HasPrefix(list[i], prefix) || len(list[i]) < len(prefix)+leastSecret {
			return nil, g.errorf("key %d does not look like one: want %s...", i+1, prefix)
		}
	}
	return list, nil
}

// takeAmberKeys takes a ring, or the name of a file that has it: a mounted
// secret, for instance, whose mode is not amber's to say.
func takeAmberKeys(c *Config, g given) error {
	file, ok := strings.CutPrefix(g.text, "@")
	ring := g.text
	if ok {
		text, err := readSmall(file)
		if err != nil {
			return g.errorf("read keys: %w", err)
		}
		ring = text
	}
	if _, err := keys.ParseRing(ring); err != nil {
		return g.errorf("%w: `amber keys new` makes one", err)
	}
	c.AmberKeys = ring
	return nil
}

func readSmall(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return strings.TrimSpace(string(text)), err
}

// showAmberKeys shows the ids of the keys alone.
func showAmberKeys(text string) string {
	if strings.HasPrefix(text, "@") {
		return text
	}
	var ids []string
	for entry := range strings.SplitSeq(text, ",") {
		id, _, ok := strings.Cut(strings.TrimSpace(entry), ":")
		if !ok || len(id) > 32 {
			return hidden // it may be a key whose id was left out
		}
		ids = append(ids, id+":"+hidden)
	}
	return strings.Join(ids, ",")
}

// completeKeys adds to the keys what follows from others.
func (c *Config) completeKeys() error {
	if c.Mode == Dev {
		local := keys.Local()
		if c.Keys.JWTSecret == "" {
			c.Keys.JWTSecret = local.JWTSecret
		}
		c.Keys.PublishableKey = cmp.Or(c.Keys.PublishableKey, local.PublishableKey)
		c.Keys.SecretKey = cmp.Or(c.Keys.SecretKey, local.SecretKey)
		if c.Keys.Public == nil && c.ProjectURL == "" {
			c.Keys.Public = local.Public
		}
	}
	if c.Keys.JWTSecret == "" {
		return nil
	}
	derived, err := keys.Derive(c.Keys.JWTSecret)
	if err != nil {
		return fmt.Errorf("derive keys from the JWT secret: %w", err)
	}
	c.Keys.AnonKey = cmp.Or(c.Keys.AnonKey, derived.AnonKey)
	c.Keys.ServiceRoleKey = cmp.Or(c.Keys.ServiceRoleKey, derived.ServiceRoleKey)
	return nil
}
