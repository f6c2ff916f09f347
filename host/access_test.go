package host_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase"
	"github.com/amberhost/amber/supabase/keys"
)

// TestProjectAccess is the table of who may call what, and as whom, by what
// config.toml says of the function.
func TestProjectAccess(t *testing.T) {
	t.Parallel()
	project, err := supabase.Parse("config.toml", []byte(`
		[functions.free-public]
		verify_jwt = false
		[functions.free-service]
		verify_jwt = false
		[functions.kept-public]
		verify_jwt = true
		[functions.gone]
		enabled = false`))
	if err != nil {
		t.Fatal(err)
	}
	said, err := project.Functions()
	if err != nil {
		t.Fatal(err)
	}
	whoami := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, wire.Caller(r.Context()).Role) })
	table := []functions.Function{
		{Name: "public", Access: functions.Public, Handler: whoami},
		{Name: "service", Access: functions.Service, Handler: whoami},
		{Name: "free-public", Access: functions.Public, Handler: whoami},
		{Name: "free-service", Access: functions.Service, Handler: whoami},
		{Name: "kept-public", Access: functions.Public, Handler: whoami},
		{Name: "gone", Access: functions.Public, Handler: whoami},
	}
	local := keys.Local()
	more := keys.Set{SecretKey: "sb_secret_" + strings.Repeat("x", 24)}
	header := map[string]string{
		"nobody": "", "bad": "rubbish", "anon": local.AnonKey, "user": user(t, map[string]any{"role": "authenticated"}),
		"service": local.ServiceRoleKey, "another secret key": more.SecretKey,
	}
	for _, open := range []bool{false, true} {
		config := host.Config{Open: open, Keys: local, MoreKeys: []keys.Set{more}, Functions: said}
		gateway := httptest.NewServer(host.NewGateway(config, table))
		t.Cleanup(gateway.Close)
		r := &running{t: t, client: gateway.Client(), info: host.Info{URL: gateway.URL}}
		for _, test := range []struct{ function, caller, closed, opened string }{
			{"public", "nobody", "401", "anon"},
			{"public", "bad", "401", "anon"},
			{"public", "anon", "anon", "anon"},
			{"public", "user", "authenticated", "authenticated"},
			{"public", "service", "service_role", "service_role"},
			{"public", "another secret key", "service_role", "service_role"},
			{"service", "nobody", "401", "anon"},
			{"service", "anon", "403", "anon"},
			{"service", "user", "403", "authenticated"},
			{"service", "service", "service_role", "service_role"},
			{"service", "another secret key", "service_role", "service_role"},
			{"free-public", "nobody", "anon", "anon"},
			{"free-public", "bad", "anon", "anon"},
			{"free-public", "user", "authenticated", "authenticated"},
			{"free-service", "nobody", "anon", "anon"},
			{"free-service", "bad", "anon", "anon"},
			{"free-service", "user", "authenticated", "authenticated"},
			{"free-service", "service", "service_role", "service_role"},
			{"kept-public", "nobody", "401", "anon"},
			{"gone", "service", "404", "404"},
			{"gone", "nobody", "404", "404"},
		} {
			want := test.closed
			if open {
				want = test.opened
			}
			credential := "X-Nothing: 1"
			if key := header[test.caller]; key != "" {
				credential = "Authorization: Bearer " + key
			}
			got := r.do(t, "POST", "/functions/v1/"+test.function, "", credential)
			if got.status != 200 {
				got.body = fmt.Sprint(got.status)
			}
			if got.body != want {
				t.Errorf("open %v: %s as %s: %s, want %s", open, test.function, test.caller, got.body, want)
			}
		}
	}
}
