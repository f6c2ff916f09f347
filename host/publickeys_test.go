package host_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/keys"
)

// signer signs users' tokens with ES256, as newer projects do.
type signer struct {
	kid string
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T, kid string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, key}
}

// bearer is the header with a token of these claims.
func (s signer) bearer(t *testing.T, role, sub string) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"role": role, "sub": sub, "exp": time.Now().Add(time.Hour).Unix()})
	token.Header["kid"] = s.kid
	text, err := token.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + text
}

// jwk is the key with its private part, which the CLI keeps in signing_keys.json.
func (s signer) jwk() string {
	point, err := s.key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	d, err := s.key.Bytes()
	if err != nil {
		panic(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","alg":"ES256","key_ops":["sign","verify"],"kid":%q,"d":%q,"x":%q,"y":%q}`,
		s.kid, text(d), text(point[1:33]), text(point[33:]))
}

// local is the public key of every local project, under a name of the test's.
const local = `{"kty":"EC","crv":"P-256","kid":"mine","x":"M5Sjqn5zwC9Kl1zVfUUGvv9boQjCGd45G8sdopBExB4","y":"P6IXMvA2WYXSHSOMTBH2jsw_9rrzGy89FjPf6oOsIxQ"}`

// TestPublicKeySettings is the table of where public keys may be given. DIR is
// the project's directory.
func TestPublicKeySettings(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t, "one"), newSigner(t, "two")
	inline := `{"keys":[{"kty":"oct","k":"aHVudGVyMg"},` + one.jwk() + `]}`
	file := "[\n" + two.jwk() + "\n]"
	config := "[auth]\nsigning_keys_path = \"./signing_keys.json\"\n"
	const where = "DIR/supabase/config.toml:2: auth.signing_keys_path: "
	for _, tt := range []struct {
		name   string
		config string
		files  map[string]string
		env    []string
		want   string // the keys, or
		wrong  string // the error
	}{
		{"none", "", nil, nil, "<nil>", ""},
		{"SUPABASE_JWKS", "", nil, []string{"SUPABASE_JWKS", inline}, "ES256 one", ""},
		{"EXT_SUPABASE_JWKS", "", nil, []string{"EXT_SUPABASE_JWKS", inline}, "ES256 one", ""},
		{"@FILE", "", map[string]string{"jwks.json": inline}, []string{"SUPABASE_JWKS", "@DIR/jwks.json"}, "ES256 one", ""},
		{"of the secret alone", "", nil, []string{"SUPABASE_JWKS", `{"keys":[{"kty":"oct"}]}`}, "none for ES256 or RS256", ""},
		{"signing_keys_path", config, map[string]string{"supabase/signing_keys.json": file}, nil, "ES256 two", ""},
		{"signing_keys_path, absolute", strings.Replace(config, "./", "DIR/", 1), map[string]string{"signing_keys.json": file}, nil, "ES256 two", ""},
		{"signing_keys_path of a .env", "[auth]\nsigning_keys_path = \"env(FILE)\"\n",
			map[string]string{"supabase/.env": "FILE=k/s.json\n", "supabase/k/s.json": file}, nil, "ES256 two", ""},
		{"the inline ones first", config, nil, []string{"SUPABASE_JWKS", inline}, "ES256 one", ""},

		{"broken", "", nil, []string{"SUPABASE_JWKS", "{\"keys\":[\n{\"kty\":\"hunter2\",}]}"}, "", "SUPABASE_JWKS: line 2: no JSON: "},
		{"broken in config.toml", "[amber]\n\njwks = '{\"keys\":[{}]}'\n", nil, nil, "", "DIR/supabase/config.toml:3: amber.jwks: line 1: key 1: it has no kty"},
		{"broken @FILE", "", map[string]string{"jwks.json": "{\"keys\":\n[\n{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"hunter2\"}]}"}, []string{"SUPABASE_JWKS", "@DIR/jwks.json"}, "",
			"SUPABASE_JWKS: DIR/jwks.json:3: key 1: kid \"\": x and y: "},
		{"no @FILE", "", nil, []string{"SUPABASE_JWKS", "@DIR/jwks.json"}, "", "SUPABASE_JWKS: read public keys: open DIR/jwks.json: no such file"},
		{"broken signing keys", config, map[string]string{"supabase/signing_keys.json": "[\n\n{}]"}, nil, "", where + "DIR/supabase/signing_keys.json:3: key 1: it has no kty"},
		{"no signing keys", config, nil, nil, "", where + "read signing keys: open DIR/supabase/signing_keys.json: no such file or directory: SUPABASE_JWKS may"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			here := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			if err := os.MkdirAll(dir+"/supabase/k", 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "supabase/config.toml", here(tt.config))
			for name, text := range tt.files {
				write(t, dir, name, text)
			}
			env := make([]string, len(tt.env))
			for i, s := range tt.env {
				env[i] = here(s)
			}
			sources := host.Sources{Mode: host.Serve, Workdir: dir, Getenv: variables(env...)}
			c, err := host.Load(sources)
			values, _ := host.Explain(sources)
			shown := fmt.Sprint(values)
			if strings.Contains(shown, "aHVudGVyMg") || strings.Contains(shown, one.jwk()) || strings.Contains(shown+fmt.Sprint(err), "hunter2") {
				t.Errorf("shows a key: %s %v", shown, err)
			}
			if tt.wrong != "" {
				if err == nil || !strings.HasPrefix(err.Error(), here(tt.wrong)) {
					t.Errorf("%v, want %s", err, here(tt.wrong))
				}
				return
			}
			if err != nil || fmt.Sprint(c.Keys.Public) != tt.want {
				t.Fatalf("%v, %v, want %s", c.Keys.Public, err, tt.want)
			}
			for _, v := range values {
				if v.Name == "jwks" && len(tt.env) > 0 && v.Text != tt.want && v.Text != env[1] {
					t.Errorf("amber config shows %s", v.Text)
				}
			}
		})
	}
}

// TestProjectURL: where keys are fetched, and where not.
func TestProjectURL(t *testing.T) {
	t.Parallel()
	const jwks = `{"keys":[]}`
	for _, tt := range []struct {
		mode host.Mode
		env  []string
		want string // the URL where keys are fetched, or
		warn string // what the warning says besides, or
		err  string
	}{
		{host.Serve, []string{"SUPABASE_URL", "https://ref.supabase.co/"}, "https://ref.supabase.co", "", ""},
		{host.Serve, []string{"EXT_SUPABASE_URL", "https://ref.supabase.co"}, "https://ref.supabase.co", "", ""},
		{host.Serve, []string{"SUPABASE_URL", "http://kong:8000"}, "http://kong:8000", "http://kong:8000 without encryption", ""},
		{host.Serve, []string{"SUPABASE_URL", "http://kong:8000", "SUPABASE_JWKS", jwks}, "http://kong:8000", "", ""},
		{host.Dev, []string{"SUPABASE_URL", "http://127.0.0.1:54321"}, "", "", ""},
		{host.Dev, []string{"SUPABASE_URL", "http://localhost:54321/"}, "", "", ""},
		{host.Dev, []string{"SUPABASE_URL", "http://127.0.0.1:54321", "AMBER_PORT", "8000"}, "http://127.0.0.1:54321", "", ""},
		{host.Dev, []string{"SUPABASE_URL", "http://localhost", "AMBER_PORT", "80"}, "", "", ""},
		{host.Serve, []string{"SUPABASE_URL", "http://10.0.0.7:54321", "AMBER_LISTEN", "10.0.0.7"}, "", "", ""},
		{host.Serve, []string{"SUPABASE_URL", "http://10.0.0.8:54321", "AMBER_LISTEN", "10.0.0.7"}, "http://10.0.0.8:54321", "without encryption", ""},
		{host.Serve, []string{"SUPABASE_URL", "https://amber.example.com", "AMBER_URL", "https://amber.example.com/"}, "", "", ""},
		{host.Serve, []string{"SUPABASE_URL", "ref.supabase.co"}, "", "", "want something like https://<ref>.supabase.co"},
		{host.Serve, []string{"SUPABASE_URL", "postgres://a:hunter2@x"}, "", "", "is not the URL of a project"},
		{host.Serve, []string{"SUPABASE_URL", "https://a:hunter2@x"}, "", "", "is not the URL of a project"},
	} {
		c, err := host.Load(host.Sources{Mode: tt.mode, Getenv: variables(tt.env...)})
		if tt.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), "SUPABASE_URL: ") || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v: %v, want %s", tt.env, err, tt.err)
			}
			continue
		}
		warnings := strings.Join(c.Warnings, "\n")
		if err != nil || c.ProjectURL != tt.want || !strings.Contains(warnings, tt.warn) || (warnings == "") != (tt.warn == "") {
			t.Errorf("%v: %q, %q, %v, want %q", tt.env, c.ProjectURL, warnings, err, tt.want)
		}
		if byDefault := c.Keys.Public == keys.Local().Public; byDefault != (tt.mode == host.Dev && tt.want == "") {
			t.Errorf("%v: trusts the local key: %v", tt.env, byDefault)
		}
	}
}

// TestPublicKeyCheck: public keys let users in, but not the one of which
// everybody has the private part.
func TestPublicKeyCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ jwks, listen, want string }{
		{`{"keys":[` + newSigner(t, "k").jwk() + `]}`, "0.0.0.0", ""},
		{`{"keys":[` + local + `]}`, "127.0.0.1", ""},
		{`{"keys":[` + newSigner(t, "k").jwk() + `,` + local + `]}`, "0.0.0.0", "is the one that every local Supabase project has"},
	} {
		c, err := host.Load(host.Sources{Mode: host.Serve, Flags: map[string]string{
			"database-url": "postgres://db.example.com/x", "amber-keys": newKey(t, "k"), "jwks": tt.jwks, "listen": tt.listen}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.30s on %s: %v, want %q", tt.jwks, tt.listen, err, tt.want)
		}
	}
}

// TestLocalKeyIsNotFetched: a project that publishes the key of local projects
// serves a host that this machine alone reaches.
func TestLocalKeyIsNotFetched(t *testing.T) {
	t.Parallel()
	project := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[`+local+`]}`) }))
	t.Cleanup(project.Close)
	for listen, refused := range map[string]bool{"127.0.0.1": false, "0.0.0.0": true} {
		lines := make(logLines, 100)
		gateway := httptest.NewServer(host.NewGateway(host.Config{Listen: listen, ProjectURL: project.URL, Log: slog.New(slog.NewTextHandler(lines, nil))},
			[]functions.Function{{Name: "f", Handler: http.NotFoundHandler()}}))
		t.Cleanup(gateway.Close)
		r := &running{t: t, client: gateway.Client(), info: host.Info{URL: gateway.URL}}
		s := newSigner(t, "mine") // whose signature is wrong: what counts is what is logged
		if a := r.do(t, "GET", "/functions/v1/f", "", s.bearer(t, "authenticated", "x")); a.status != 401 {
			t.Errorf("%s: %d", listen, a.status)
		}
		if log := lines.rest(); strings.Contains(log, "that of every local Supabase project") != refused {
			t.Errorf("%s: %s", listen, log)
		}
	}
}

// TestNoPublicKeys: a host that cannot verify a token says so, once.
func TestNoPublicKeys(t *testing.T) {
	t.Parallel()
	lines := make(logLines, 100)
	gateway := httptest.NewServer(host.NewGateway(host.Config{Keys: keys.Set{JWTSecret: "a secret that nobody has"}, MoreKeys: []keys.Set{{SecretKey: "sb_secret_x"}},
		Log: slog.New(slog.NewTextHandler(lines, nil))}, []functions.Function{{Name: "f", Handler: http.NotFoundHandler()}}))
	t.Cleanup(gateway.Close)
	r := &running{t: t, client: gateway.Client(), info: host.Info{URL: gateway.URL}}
	s := newSigner(t, "k")
	for range 3 {
		a := r.do(t, "GET", "/functions/v1/f", "", s.bearer(t, "authenticated", "x"))
		if a.status != 401 || a.header.Get("sb-error-code") != keys.CodeAsymmetricJWT || a.text(t, "message") != "Invalid JWT" {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
	}
	if log := lines.rest(); strings.Count(log, "set SUPABASE_URL") != 1 {
		t.Errorf("log: %s", log)
	}
}

// TestSignedIn: users of a project that signs with ES256 see their own runs and
// nobody else's, whichever of the project's keys their token is signed with.
func TestSignedIn(t *testing.T) {
	t.Parallel()
	first, second, foreign := newSigner(t, "first"), newSigner(t, "second"), newSigner(t, "first")
	project := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"keys":[`+first.jwk()+`,`+second.jwk()+`]}`) // a project has its next key ready
	}))
	t.Cleanup(project.Close)
	r := serve(t, ofServe(t, pgtest.New(t), "SUPABASE_URL", project.URL))
	r.awaitBegun(t)
	const ann, bob = "6f1d2c3a-0000-4000-8000-00000000000a", "6f1d2c3a-0000-4000-8000-00000000000b"
	start := func(header, owner string) string {
		a := r.do(t, "POST", execute, `{"taskName":"echo","input":1}`, header, "Prefer: wait=60")
		if a.status != 200 || a.text(t, "owner") != owner {
			t.Fatalf("execute: %d %s, want a run of %s", a.status, a.body, owner)
		}
		return a.text(t, "id")
	}
	anns, bobs := start(first.bearer(t, "authenticated", ann), ann), start(first.bearer(t, "authenticated", bob), bob)
	all := []string{anns, bobs}
	for _, tt := range []struct {
		name, header string
		sees         []string
	}{
		{"Ann", first.bearer(t, "authenticated", ann), []string{anns}},
		{"Ann, with the next key", second.bearer(t, "authenticated", ann), []string{anns}},
		{"Bob", first.bearer(t, "authenticated", bob), []string{bobs}},
		{"the service role", first.bearer(t, "service_role", ""), all},
		{"the service role, with HS256", service, all},
	} {
		list := r.do(t, "GET", "/functions/v1/tasks/runs", "", tt.header)
		for _, id := range all {
			want := 404
			for _, seen := range tt.sees {
				if seen == id {
					want = 200
				}
			}
			if a := r.do(t, "GET", "/functions/v1/tasks/status/"+id, "", tt.header); a.status != want {
				t.Errorf("%s: status of %s: %d, want %d", tt.name, id, a.status, want)
			}
			if list.status != 200 || strings.Contains(list.body, id) != (want == 200) {
				t.Errorf("%s: runs: %d %s", tt.name, list.status, list.body)
			}
		}
	}
	a := r.do(t, "GET", "/functions/v1/tasks/runs", "", foreign.bearer(t, "service_role", ""))
	if a.status != 401 || a.header.Get("sb-error-code") != keys.CodeAsymmetricJWT {
		t.Errorf("another project's token: %d %s", a.status, a.body)
	}
	if a := r.do(t, "POST", "/functions/v1/publish", `{"name":"x","code":"module.exports = () => 1"}`, first.bearer(t, "authenticated", ann)); a.status != 403 {
		t.Errorf("publish as a user: %d %s", a.status, a.body)
	}
}
