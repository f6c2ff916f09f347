package keys_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
)

func TestRingRotates(t *testing.T) {
	t.Parallel()
	old, fresh := newKey(t, "old"), newKey(t, "new")
	ad, secret := []byte("header"), []byte("a snapshot")

	id, sealed, err := parse(t, old).Seal(secret, ad)
	if err != nil || id != "old" {
		t.Fatalf("Seal = %q, %v", id, err)
	}
	both := parse(t, fresh+", "+old+"\n")
	if got, err := both.Open(id, sealed, ad); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("Open after rotation = %q, %v", got, err)
	}
	if id, _, _ := both.Seal(secret, ad); id != "new" {
		t.Errorf("sealed with %q, want the first key", id)
	}
	if w, ids := both.Writer(), both.IDs(); w != "new" || !slices.Equal(ids, []string{"new", "old"}) {
		t.Errorf("writer %q, ids %q", w, ids)
	}
	if none := (*keys.Ring)(nil); none.Writer() != "" || none.IDs() != nil {
		t.Errorf("an empty ring has keys: %q %q", none.Writer(), none.IDs())
	}
	if _, err := parse(t, fresh).Open(id, sealed, ad); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("Open without the old key: %v, want ErrUnknownKey", err)
	}
}

func TestRingRefusesForgeries(t *testing.T) {
	t.Parallel()
	ring := parse(t, newKey(t, "a")+","+newKey(t, "b"))
	id, sealed, err := ring.Seal([]byte("plain"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"ciphertext": func() ([]byte, error) { return ring.Open(id, flipped, []byte("ad")) },
		"ad":         func() ([]byte, error) { return ring.Open(id, sealed, []byte("da")) },
		"key":        func() ([]byte, error) { return ring.Open("b", sealed, []byte("ad")) },
		"short":      func() ([]byte, error) { return ring.Open(id, sealed[:5], []byte("ad")) },
		"empty":      func() ([]byte, error) { return ring.Open(id, nil, []byte("ad")) },
	} {
		if got, err := open(); !errors.Is(err, keys.ErrForged) || got != nil || !strings.Contains(err.Error(), "another key of that id") {
			t.Errorf("%s: Open = %q, %v, want ErrForged", name, got, err)
		}
	}
}

func TestRingSealsDifferentlyEachTime(t *testing.T) {
	t.Parallel()
	ring := parse(t, newKey(t, "a"))
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[string]bool{}
	for range 8 {
		wg.Go(func() {
			for range 50 {
				id, sealed, err := ring.Seal([]byte("same"), nil)
				if err != nil {
					t.Error(err)
				}
				if got, err := ring.Open(id, sealed, nil); err != nil || string(got) != "same" {
					t.Errorf("Open = %q, %v", got, err)
				}
				mu.Lock()
				seen[string(sealed)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 400 {
		t.Errorf("%d different ciphertexts of 400", len(seen))
	}
}

func TestParseRingRefuses(t *testing.T) {
	t.Parallel()
	good := newKey(t, "good")
	_, material, _ := strings.Cut(good, ":")
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "entry 1: is empty"},
		{"trailing comma", good + ",", "entry 2: is empty"},
		{"no id", material, "entry 1: has no colon"},
		{"swapped", material + ":k", "entry 1: id"},
		{"empty id", ":" + material, "entry 1: id"},
		{"long id", strings.Repeat("x", 33) + ":" + material, "entry 1: id"},
		{"not base64", good + ",k:" + material + "!", "entry 2: key: not standard base64"},
		{"short key", "k:" + material[:40], "entry 1: key: 30 bytes, want 32"},
		{"twice", good + "," + good, "entry 2: an earlier entry has the same id"},
	} {
		_, err := keys.ParseRing(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		} else if strings.Contains(err.Error(), material[:8]) {
			t.Errorf("%s: %q shows the key", tt.name, err)
		}
	}
	if _, err := keys.NewKey("no spaces"); err == nil {
		t.Error("NewKey took an id that ParseRing refuses")
	}
}

func TestEmptyRingSealsNothing(t *testing.T) {
	t.Parallel()
	for _, ring := range []*keys.Ring{nil, new(keys.Ring)} {
		if _, _, err := ring.Seal(nil, nil); err == nil {
			t.Errorf("%v sealed", ring)
		}
		if _, err := ring.Open("k", nil, nil); !errors.Is(err, keys.ErrUnknownKey) {
			t.Errorf("%v: Open: %v", ring, err)
		}
	}
}

func newKey(t *testing.T, id string) string {
	t.Helper()
	key, err := keys.NewKey(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func parse(t *testing.T, text string) *keys.Ring {
	t.Helper()
	ring, err := keys.ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
