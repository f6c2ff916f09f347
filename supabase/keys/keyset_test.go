package keys_test

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
)

func TestParseKeySet(t *testing.T) {
	t.Parallel()
	ec, rsa := newEC(t, "e", elliptic.P256()), newRSA("r", 2048)
	private := ec.jwk("d", "the private part", "alg", "ES256")
	for _, tt := range []struct{ name, text, want string }{
		{"a set", keySet(ec.jwk(), rsa.jwk()), "ES256 e, RS256 r"},
		{"a list, as signing_keys_path has it", strings.TrimSuffix(strings.TrimPrefix(keySet(private), "{\n \"keys\":"), "}"), "ES256 e"},
		{"padded", keySet(ec.jwk("x", ec.jwk()["x"]+"=")), "ES256 e"},
		{"no kid", keySet(newRSA("", 2048).jwk()), "RS256"},
		{"none", `{"keys":[]}`, "none for ES256 or RS256"},
		{"an empty list", ` [ ] `, "none for ES256 or RS256"},
		{"with the secret", keySet(map[string]string{"kty": "oct", "k": "c2VjcmV0"}, ec.jwk()), "ES256 e"},
		{"other kinds", keySet(newEC(t, "w", elliptic.P521()).jwk(), map[string]string{"kty": "OKP", "crv": "Ed25519", "x": "AA"}, rsa.jwk("alg", "PS256")), "none for ES256 or RS256"},
	} {
		set, err := keys.ParseKeySet([]byte(tt.text))
		if err != nil || set.String() != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.name, set, err, tt.want)
		}
	}
}

// TestParseKeySetRefuses is the table of what is wrong, and in which line. keySet
// puts the first key's brace into line 3.
func TestParseKeySetRefuses(t *testing.T) {
	t.Parallel()
	ec, rsa := newEC(t, "e", elliptic.P256()), newRSA("r", 2048)
	many := fmt.Sprintf(`{"keys":[%s{}]}`, strings.Repeat(`{"kty":"oct"},`, 100))
	for _, tt := range []struct {
		name, text string
		line       int
		want       string
	}{
		{"nothing", "", 1, "no JSON: "},
		{"no JSON", "{\n\"keys\": [\n{\"kty\" \"EC\"}]}", 3, "no JSON: "},
		{"cut off", keySet(ec.jwk())[:40], 5, "no JSON: "},
		{"more behind", keySet(ec.jwk()) + "\n{}", 13, "no JSON: "},
		{"one key", `{"kty":"EC"}`, 1, `want {"keys":[...]}`},
		{"keys null", `{"keys":null}`, 1, `want {"keys":[...]}`},
		{"a text", `"keys"`, 1, "cannot unmarshal"},
		{"key no object", "{\"keys\":[\n7]}", 2, "key 1: want an object"},
		{"member no text", "{\"keys\":[\n\n{\"kty\":1}]}", 3, "key 1: want an object"},
		{"no kty", keySet(map[string]string{"kid": "k"}), 3, "key 1: it has no kty"},
		{"not on the curve", keySet(ec.jwk("y", ec.jwk()["x"])), 3, `key 1: kid "e": x and y are no point of P-256`},
		{"short", keySet(ec.jwk("x", "AAAA")), 3, `key 1: kid "e": x and y: want 32 bytes each`},
		{"no y", keySet(ec.jwk("y", "")), 3, `key 1: kid "e": x and y: want 32 bytes each`},
		{"no base64", keySet(ec.jwk("x", strings.Repeat("!", 43))), 3, `key 1: kid "e": x and y: want 32 bytes each`},
		{"second key", keySet(ec.jwk(), rsa.jwk("n", "")), 11, `key 2: kid "r": n and e: want numbers`},
		{"the same again, broken", keySet(map[string]string{"kty": "oct"}, map[string]string{"kty": "oct"}, map[string]string{}), 9, "key 3: it has no kty"},
		{"small RSA", keySet(newRSA("s", 1024).jwk()), 3, `key 1: kid "s": an RSA key of 1024 bits: want 2048 to 8192`},
		{"large RSA", keySet(rsa.jwk("n", strings.Repeat("_", 4*512))), 3, "an RSA key of 12288 bits"},
		{"exponent 1", keySet(rsa.jwk("e", "AQ")), 3, "e: want an odd number"},
		{"exponent even", keySet(rsa.jwk("e", "BA")), 3, "e: want an odd number"},
		{"exponent large", keySet(rsa.jwk("e", "AQAAAAE")), 3, "e: want an odd number"},
		{"too many", many, 1, "101 keys: want at most 100"},
	} {
		set, err := keys.ParseKeySet([]byte(tt.text))
		var wrong *keys.KeySetError
		if !errors.As(err, &wrong) || set != nil || wrong.Line != tt.line || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v, want line %d: %s", tt.name, set, err, tt.line, tt.want)
		} else if strings.Contains(err.Error(), ec.jwk()["x"][:8]) {
			t.Errorf("%s: %v shows the key", tt.name, err)
		}
	}
}
