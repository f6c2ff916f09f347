package host_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/amberhost/amber/host"
)

// TestPanics: a function that panics is answered for, and the host goes on. An
// answer that has begun is broken off: its client must not take it for whole.
func TestPanics(t *testing.T) {
	t.Parallel()
	lines := make(logLines, 1000)
	address := gate(t, host.Config{Log: slog.New(slog.NewTextHandler(lines, nil))},
		function("before", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("ETag", `"x"`)
			panic("before")
		}),
		function("nil", func(http.ResponseWriter, *http.Request) { panic(fmt.Errorf("%w", error(nil))) }),
		function("begun", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "half")
			panic("begun")
		}),
		function("flushed", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Repeat("half ", 1000))
			w.(http.Flusher).Flush()
			panic("flushed")
		}),
		function("aborts", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }))
	for name, whole := range map[string]bool{"before": true, "nil": true, "begun": false, "flushed": false, "aborts": false} {
		for _, accept := range []string{"gzip", "identity"} {
			request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+"/functions/v1/"+name, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept-Encoding", accept)
			a, err := fetch(request)
			switch {
			case whole && (err != nil || a.status != 500 || a.text(t, "code") != "INTERNAL_ERROR" || a.header.Get("ETag") != ""):
				t.Errorf("%s: %d %v %q, %v", name, a.status, a.header, a.body, err)
			case !whole && err == nil:
				t.Errorf("%s: %d %q is whole", name, a.status, a.body)
			}
			lines.await(t, "msg=request", "path=/functions/v1/"+name)
		}
	}
	if a := call(t, address, "GET", "/health", nil); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}
