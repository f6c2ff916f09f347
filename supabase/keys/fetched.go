package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The bounds of fetching that nobody needs to set.
const (
	maxSetSize = 64 << 10 // bytes of a key set
	maxAbsent  = 1000     // kids that are remembered as unknown
	maxKid     = 256      // bytes of a kid; a longer one is nobody's
)

// FetchOptions say how keys are fetched. Durations of zero have defaults.
type FetchOptions struct {
	Interval time.Duration // between two fetches, at least; 10 s
	Absent   time.Duration // how long a kid that the project does not have is not asked for again; 1 min
	Age      time.Duration // how old keys may be before they are fetched anew: how long one counts that was revoked, if fetches succeed; 10 min
	Expiry   time.Duration // how old they may be at all: when fetches have failed for so long, none counts; 1 h
	Timeout  time.Duration // of a fetch; 5 s

	RefuseLocal bool             // take no set with the key that every local Supabase project has
	Now         func() time.Time // nil means time.Now
	Log         *slog.Logger     // hears of each fetch that fails; nil discards
}

func (o FetchOptions) withDefaults() FetchOptions {
	for field, value := range map[*time.Duration]time.Duration{
		&o.Interval: 10 * time.Second, &o.Absent: time.Minute, &o.Age: 10 * time.Minute, &o.Expiry: time.Hour,
		&o.Timeout: 5 * time.Second,
	} {
		if *field <= 0 {
			*field = value
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// FetchedKeys are the keys that a project publishes. They are fetched when a
// token needs one, by the request that brings it: there is no goroutine.
//
// Who sends tokens that name keys at random causes one fetch per
// [FetchOptions].Interval and no more. A fetch that fails leaves the keys as they
// are, until they are as old as [FetchOptions].Expiry. It is safe for concurrent
// use; requests that need a fetch share it.
type FetchedKeys struct {
	url    string
	o      FetchOptions
	client *http.Client

	mu     sync.Mutex
	set    *KeySet              // nil: none was fetched yet
	old    time.Time            // when set is to be fetched anew
	over   time.Time            // when set counts no more
	next   time.Time            // no fetch before
	absent map[string]time.Time // kids that the project does not have, each until it may be asked for again
	busy   chan struct{}        // closed when the fetch under way ends; nil if there is none
}

// NewFetchedKeys returns the keys of the project at a URL such as
// https://<ref>.supabase.co. It fetches nothing yet.
func NewFetchedKeys(projectURL string, o FetchOptions) *FetchedKeys {
	return &FetchedKeys{
		url:    strings.TrimRight(projectURL, "/") + "/auth/v1/.well-known/jwks.json",
		o:      o.withDefaults(),
		absent: map[string]time.Time{},
		client: &http.Client{
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // keys come from who was named
		},
	}
}

func (f *FetchedKeys) find(ctx context.Context, kid, alg string) crypto.PublicKey {
	if len(kid) > maxKid {
		return nil
	}
	for {
		key, wait, due := f.look(ctx, kid, alg)
		switch {
		case due:
			return f.fetch(ctx, kid, alg)
		case wait == nil:
			return key
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil
		}
	}
}

// look returns the key as far as it is known, and what to do first: wait for a
// fetch that is under way, or begin one.
func (f *FetchedKeys) look(ctx context.Context, kid, alg string) (key crypto.PublicKey, wait <-chan struct{}, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.o.Now()
	key = f.valid(now).find(ctx, kid, alg)
	switch {
	case key != nil && (now.Before(f.old) || f.busy != nil):
		return key, nil, false // an old one will do while another request fetches
	case key == nil && now.Before(f.absent[kid]):
		return nil, nil, false
	case f.busy != nil:
		return nil, f.busy, false
	case now.Before(f.next):
		return key, nil, false
	}
	f.busy = make(chan struct{})
	return nil, nil, true
}

// fetch fetches the set and looks the key up in it. Others wait for it too, so
// it does not end with the request that it is for.
func (f *FetchedKeys) fetch(ctx context.Context, kid, alg string) (key crypto.PublicKey) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.o.Timeout)
	defer cancel()
	var set *KeySet
	err := errors.New("the fetch came to no end")
	defer func() { key = f.end(ctx, kid, alg, set, err) }() // whatever happens: others wait
	set, err = f.get(limited)
	return key
}

// end ends a fetch and looks the key up for which it was made.
func (f *FetchedKeys) end(ctx context.Context, kid, alg string, set *KeySet, err error) crypto.PublicKey {
	if err != nil {
		f.warn(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.o.Now()
	if err == nil {
		f.set, f.old, f.over = set, now.Add(f.o.Age), now.Add(f.o.Expiry)
	}
	f.next = now.Add(f.o.Interval)
	close(f.busy)
	f.busy = nil
	key := f.valid(now).find(ctx, kid, alg)
	if key == nil && err == nil {
		f.forget(kid, now.Add(f.o.Absent))
	}
	return key
}

// valid returns the set while it counts. f.mu is held.
func (f *FetchedKeys) valid(now time.Time) *KeySet {
	if now.Before(f.over) {
		return f.set
	}
	return nil
}

// warn says that a fetch has failed, and what that means for users.
func (f *FetchedKeys) warn(err error) {
	f.o.Log.Warn("the project's public keys cannot be fetched: "+f.lack()+"; SUPABASE_URL says where they are, and SUPABASE_JWKS may have them instead",
		"url", f.url, "err", err)
}

// lack says which tokens are refused while no keys can be fetched.
func (f *FetchedKeys) lack() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.o.Now()
	lack := "users' tokens are refused that need one which was not fetched before"
	switch {
	case f.set == nil:
		return lack
	case f.valid(now) == nil:
		return "those that were fetched before are too old to count, and all users' tokens that need one are refused"
	}
	return lack + ", and in " + f.over.Sub(now).Round(time.Second).String() + " all that need one"
}

// forget notes that the project does not have a key. What there is no room for
// is asked for again, at the intervals of all fetches.
func (f *FetchedKeys) forget(kid string, until time.Time) {
	if len(f.absent) >= maxAbsent {
		clear(f.absent)
	}
	f.absent[kid] = until
}

func (f *FetchedKeys) get(ctx context.Context) (*KeySet, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxSetSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxSetSize:
		return nil, fmt.Errorf("it sends more than %d bytes", maxSetSize)
	}
	set, err := ParseKeySet(text)
	if err == nil && f.o.RefuseLocal && set.Local() {
		return nil, errors.New("one of them is that of every local Supabase project, with which everybody can sign tokens")
	}
	return set, err
}
