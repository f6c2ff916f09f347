package keys_test

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/golang-jwt/jwt/v5"
)

// project publishes keys, and counts how often it is asked for them.
type project struct {
	*httptest.Server
	asked atomic.Int32
	mu    sync.Mutex
	serve http.HandlerFunc
}

func newProject(t *testing.T) *project {
	t.Helper()
	p := new(project)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if r.URL.Path != "/auth/v1/.well-known/jwks.json" || r.Method != "GET" {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		p.mu.Lock()
		serve := p.serve
		p.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// does sets what the project answers from now on.
func (p *project) does(serve http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serve = serve
}

// has publishes these keys from now on.
func (p *project) has(signers ...signer) {
	var list []map[string]string
	for _, s := range signers {
		list = append(list, s.jwk())
	}
	p.says(keySet(list...))
}

func (p *project) says(text string) {
	p.does(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
}

// clock is the time of a test, which passes when it is told to.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(1_800_000_000, c.nanos.Load()) }
func (c *clock) pass(d time.Duration) { c.nanos.Add(int64(d)) }
func (p *project) set(o keys.FetchOptions) keys.Set {
	return keys.Set{Public: keys.NewFetchedKeys(p.URL+"/", o)}
}

// admits reports whether a token is let in.
func admits(set keys.Set, token string) bool {
	_, err := set.Identify(request("Bearer "+token, ""))
	return err == nil
}

const (
	interval = 10 * time.Second // the defaults of FetchOptions
	absent   = time.Minute
	age      = 10 * time.Minute
	expiry   = time.Hour
)

// TestFetch goes through the life of a project's keys: a step is what the project
// does, the time that passes, and a token.
func TestFetch(t *testing.T) {
	t.Parallel()
	old, fresh, never := newEC(t, "old", elliptic.P256()), newEC(t, "new", elliptic.P256()), newEC(t, "never", elliptic.P256())
	es := jwt.SigningMethodES256
	user := ofUser("exp", time.Now().Add(1000*time.Hour).Unix())
	p, c := newProject(t), new(clock)
	set := p.set(keys.FetchOptions{Now: c.now})
	broken := func() { p.does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }) }
	for i, step := range []struct {
		what  string
		do    func()
		pass  time.Duration
		token string
		let   bool
		asked int32 // fetches by this step
	}{
		{"expired tokens fetch nothing", func() { p.has(old) }, 0, old.token(t, es, ofUser("exp", 1)), false, 0},
		{"the first token fetches", nil, 0, old.token(t, es, user), true, 1},
		{"the next one does not", nil, interval, old.token(t, es, user), true, 0},
		{"nor one with a bad signature", nil, 0, signer{"old", never.key}.token(t, es, user), false, 0},
		{"a kid that is not there fetches once", nil, 0, never.token(t, es, user), false, 1},
		{"not again within the interval", nil, interval - 1, signer{"never2", never.key}.token(t, es, user), false, 0},
		{"nor after it: it is known as absent", nil, 1, never.token(t, es, user), false, 0},
		{"but after that", nil, absent, never.token(t, es, user), false, 1},
		{"the project rotates: within the interval nobody sees", func() { p.has(old, fresh) }, interval - 1, fresh.token(t, es, user), false, 0},
		{"then the new kid appears", nil, 1, fresh.token(t, es, user), true, 1},
		{"and the old one counts on", nil, 0, old.token(t, es, user), true, 0},
		{"the old one is revoked: it counts until the keys are old", func() { p.has(fresh) }, age - 1, old.token(t, es, user), true, 0},
		{"and then no more", nil, 1, old.token(t, es, user), false, 1},
		{"a failing project: the keys count on when they are old", broken, age, fresh.token(t, es, user), true, 1},
		{"without fetching within the interval", nil, interval - 1, fresh.token(t, es, user), true, 0},
		{"and with it after that", nil, 1, fresh.token(t, es, user), true, 1},
		{"a failed fetch says nothing about a kid", nil, interval, never.token(t, es, user), false, 1},
		{"so it is asked for again after the interval", func() { p.has(fresh, never) }, interval, never.token(t, es, user), true, 1},
		{"kids longer than any are nobody's", nil, interval, signer{strings.Repeat("k", 257), never.key}.token(t, es, user), false, 0},
		{"no kid, and two keys", nil, interval, signer{"", never.key}.token(t, es, user), false, 1},
	} {
		if step.do != nil {
			step.do()
		}
		c.pass(step.pass)
		before := p.asked.Load()
		if let := admits(set, step.token); let != step.let || p.asked.Load()-before != step.asked {
			t.Errorf("%d %s: admitted %v with %d fetches, want %v with %d", i, step.what, let, p.asked.Load()-before, step.let, step.asked)
		}
	}
}

// TestFetchExpiry: keys that cannot be fetched anew count for an hour and no
// longer, whoever asks; and again when they can.
func TestFetchExpiry(t *testing.T) {
	t.Parallel()
	key := newEC(t, "k", elliptic.P256())
	token := key.token(t, jwt.SigningMethodES256, ofUser("exp", time.Now().Add(1000*time.Hour).Unix()))
	p, c := newProject(t), new(clock)
	p.has(key)
	var log bytes.Buffer
	set := p.set(keys.FetchOptions{Now: c.now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	broken := func() { p.does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }) }
	for i, step := range []struct {
		what  string
		do    func()
		pass  time.Duration
		let   bool
		asked int32
		said  string // in the log of this step
	}{
		{"fetched", nil, 0, true, 1, ""},
		{"the project fails", broken, age, true, 1, "and in 50m0s all that need one"},
		{"still", nil, expiry - age - 1, true, 1, "and in 0s all that need one"},
		{"too old, before it may be fetched again", nil, 1, false, 0, ""},
		{"and when it may be", nil, interval, false, 1, "are too old to count, and all users' tokens that need one are refused"},
		{"the project is well", func() { p.has(key) }, interval, true, 1, ""},
		{"nobody comes for long, and then it fails", broken, 100 * expiry, false, 1, "are too old to count"},
		{"well again", func() { p.has(key) }, interval, true, 1, ""},
		{"and keys count for an hour again", broken, expiry - 1, true, 1, "and in 0s"},
	} {
		if step.do != nil {
			step.do()
		}
		c.pass(step.pass)
		log.Reset()
		before := p.asked.Load()
		if let := admits(set, token); let != step.let || p.asked.Load()-before != step.asked {
			t.Errorf("%d %s: admitted %v with %d fetches, want %v with %d", i, step.what, let, p.asked.Load()-before, step.let, step.asked)
		}
		if !strings.Contains(log.String(), step.said) || (step.said == "") != (log.Len() == 0) {
			t.Errorf("%d %s: logged %q, want %q", i, step.what, log.String(), step.said)
		}
	}
}

// TestFetchFlood: any number of kids that nobody has cost a fetch per interval,
// and no token that is right.
func TestFetchFlood(t *testing.T) {
	t.Parallel()
	key, guess := newEC(t, "k", elliptic.P256()), newEC(t, "", elliptic.P256())
	user := ofUser()
	p, c := newProject(t), new(clock)
	p.has(key)
	set := p.set(keys.FetchOptions{Now: c.now})
	right := key.token(t, jwt.SigningMethodES256, user)
	const intervals, senders, each = 5, 8, 300 // more kids than are remembered
	for i := range intervals {
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				for n := range each {
					kid := fmt.Sprint("guess-", i, "-", s, "-", n)
					if admits(set, signer{kid, guess.key}.token(t, jwt.SigningMethodES256, user)) {
						t.Errorf("%s was let in", kid)
					}
				}
				if !admits(set, right) {
					t.Error("a right token was refused")
				}
			})
		}
		wg.Wait()
		c.pass(interval)
	}
	if asked := p.asked.Load(); asked != intervals {
		t.Errorf("%d fetches in %d intervals", asked, intervals)
	}
}

// TestFetchForgets: of more unknown kids than there is room for some are asked
// for again, still once per interval.
func TestFetchForgets(t *testing.T) {
	t.Parallel()
	key := newEC(t, "k", elliptic.P256())
	p, c := newProject(t), new(clock)
	p.has(key)
	set := p.set(keys.FetchOptions{Now: c.now, Absent: 100 * time.Hour})
	guess := newEC(t, "", elliptic.P256())
	const kids = 1100
	for range 2 {
		for n := range kids {
			admits(set, signer{fmt.Sprint(n), guess.key}.token(t, jwt.SigningMethodES256, ofUser()))
			c.pass(interval)
		}
	}
	if asked := p.asked.Load(); asked <= kids || asked > 2*kids {
		t.Errorf("%d fetches for %d kids, twice", asked, kids)
	}
}

// TestFetchOnce: all who need the same fetch share it, and it does not end with
// the one that began it.
func TestFetchOnce(t *testing.T) {
	t.Parallel()
	key := newEC(t, "k", elliptic.P256())
	p := newProject(t)
	began, release := make(chan struct{}, 100), make(chan struct{})
	p.does(func(w http.ResponseWriter, _ *http.Request) {
		began <- struct{}{}
		<-release
		fmt.Fprint(w, keySet(key.jwk()))
	})
	set := p.set(keys.FetchOptions{})
	r := request("Bearer "+key.token(t, jwt.SigningMethodES256, ofUser()), "")
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // the first one leaves
		_, _ = set.Identify(r.WithContext(ctx))
	})
	<-began
	leave()
	if _, err := set.Identify(r.WithContext(ctx)); err == nil {
		t.Error("one who has left waited, and was let in")
	}
	for range 20 {
		wg.Go(func() {
			if _, err := set.Identify(r); err != nil {
				t.Errorf("Identify: %v", err)
			}
		})
	}
	close(release)
	wg.Wait()
	if asked := p.asked.Load(); asked != 1 {
		t.Errorf("%d fetches", asked)
	}
}

// TestFetchTrouble: projects that give no keys. Tokens are refused, the log says
// why, and keys that were fetched before count on.
func TestFetchTrouble(t *testing.T) {
	t.Parallel()
	key := newEC(t, "k", elliptic.P256())
	token := key.token(t, jwt.SigningMethodES256, ofUser("exp", time.Now().Add(1000*time.Hour).Unix()))
	local := `{"kty":"EC","crv":"P-256","kid":"b81269f1-21d8-4f2e-b719-c2240a840d90","x":"M5Sjqn5zwC9Kl1zVfUUGvv9boQjCGd45G8sdopBExB4","y":"P6IXMvA2WYXSHSOMTBH2jsw_9rrzGy89FjPf6oOsIxQ"}`
	elsewhere := newProject(t)
	elsewhere.has(key)
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	for name, test := range map[string]struct {
		does http.HandlerFunc // nil: it is down
		want string           // in the log
	}{
		"down": {nil, "connection refused"},
		"slow": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
		"slow inside": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"keys":[`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "deadline exceeded"},
		"huge":       {text(keySet(key.jwk("x5c", strings.Repeat("x", 64<<10)))), "more than 65536 bytes"},
		"endless":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, endless{}) }, "more than 65536 bytes"},
		"no JSON":    {text("<html>"), "no JSON: invalid character '<'"},
		"no set":     {text(`{"message":"no"}`), "no key set"},
		"broken key": {text(keySet(key.jwk("x", ""))), `kid \"k\": x and y`},
		"500":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "it answers 500"},
		"404":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); fmt.Fprint(w, keySet(key.jwk())) }, "it answers 404"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999")
			fmt.Fprint(w, "{")
		}, "unexpected EOF"},
		"sends away": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		}, "it answers 302"},
		"everybody's": {text(`{"keys":[` + local + `]}`), "that of every local Supabase project"},
		"hangs up":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := newProject(t), new(clock)
			p.has(key)
			url := p.URL
			if test.does == nil {
				p.Close()
			} else {
				p.does(test.does)
			}
			var log bytes.Buffer
			timeout := time.Minute
			if strings.HasPrefix(name, "slow") {
				timeout = 2 * time.Second
			}
			o := keys.FetchOptions{Now: c.now, Timeout: timeout, RefuseLocal: true, Log: slog.New(slog.NewTextHandler(&log, nil))}
			set := keys.Set{Public: keys.NewFetchedKeys(url, o)}
			for range 10 {
				if admits(set, token) {
					t.Error("a token was let in")
				}
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), test.want) || !strings.Contains(log.String(), "SUPABASE_URL") {
				t.Errorf("%d lines of log: %s, want %q", n, log.String(), test.want)
			}
			if test.does == nil {
				return
			}
			p.has(key)
			c.pass(interval)
			if !admits(set, token) {
				t.Errorf("after it has come back: refused\n%s", log.String())
			}
			p.does(test.does)
			c.pass(age)
			if !admits(set, token) || p.asked.Load() != 3 {
				t.Errorf("when it fails again: refused, or %d fetches", p.asked.Load())
			}
		})
	}
	if elsewhere.asked.Load() != 0 {
		t.Error("went where the project sent it")
	}
}

// endless never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, bytes.Repeat([]byte(" "), len(b))), nil }
