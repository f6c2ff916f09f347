package host_test

import (
	"testing"

	"github.com/amberhost/amber/internal/pgtest"
)

// TestKeyMissing: what is sealed with a key that the host lacks is a matter of
// the host, and not of the request: a client may ask again, or another host.
func TestKeyMissing(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.New(t))
	r := serve(t, c)
	r.awaitBegun(t)
	run := r.execute(t, `{"taskName":"echo","input":7}`)
	runSQL(t, c.DatabaseURL, `update amber.replies set key_id = 'gone'`)
	for _, path := range []string{"tasks/status", "tasks/result"} {
		a := r.do(t, "GET", "/functions/v1/"+path+"?id="+run.ID, "", service)
		if a.status != 503 || a.text(t, "code") != "KEY_MISSING" || a.header.Get("Retry-After") == "" || a.header.Get("ETag") != "" {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
		const want = "This host lacks the key that this is sealed with. Nothing was lost; a host that has it can read it."
		if got := a.text(t, "error"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	runSQL(t, c.DatabaseURL, `update amber.replies set key_id = 'k'`) // the host's own
	if a := r.do(t, "GET", "/functions/v1/tasks/result?id="+run.ID, "", service); a.status != 200 || a.field(t, "result") != "7" {
		t.Errorf("with the key: %d %s", a.status, a.body)
	}
}
