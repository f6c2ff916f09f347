package host_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/host"
)

// TestLargeBodiesInFlight: large bodies are refused while others are worked for,
// small ones never, and when those have gone large ones are taken again.
func TestLargeBodiesInFlight(t *testing.T) {
	t.Parallel()
	const limit = 40 << 20 // two such bodies may be under way
	arrived, leave := make(chan struct{}), make(chan struct{})
	address := gate(t, host.Config{BodyLimit: limit}, function("keep", func(w http.ResponseWriter, r *http.Request) {
		if _, err := wire.ReadBody(r); err != nil {
			wire.Fail(w, r, slog.New(slog.DiscardHandler), err)
			return
		}
		if r.URL.Query().Has("stay") {
			arrived <- struct{}{}
			<-leave
		}
		wire.JSON(w, http.StatusOK, "read")
	}))
	post := func(size int, query string) int {
		resp, err := http.Post("http://"+address+"/functions/v1/keep"+query, "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	var staying sync.WaitGroup
	for range 2 {
		staying.Go(func() {
			if got := post(limit-1, "?stay"); got != http.StatusOK {
				t.Errorf("a large body: %d", got)
			}
		})
	}
	<-arrived
	<-arrived
	if got := post(limit-1, ""); got != http.StatusServiceUnavailable {
		t.Errorf("one more large body: %d, want 503", got)
	}
	if got := post(64<<10, ""); got != http.StatusOK {
		t.Errorf("a small body: %d, want 200", got)
	}
	close(leave)
	staying.Wait()
	if got := post(limit-1, ""); got != http.StatusOK {
		t.Errorf("a large body afterwards: %d, want 200", got)
	}
}
