package local

import (
	"context"
	"strings"
)

// superuser is who initdb makes. Nobody can log in as it: it has no password.
// Its owner's way in is postgres --single, while the server is down.
const superuser = "amber_superuser"

// rolesSQL makes the roles, a statement per line. The password of postgres is
// public, so it has nothing that leads to the account that the server runs as:
// no superuser, and also
//
//   - no replication: a slot's output plugin may be any library on the machine;
//   - createrole from Postgres 16 on only: before, it may grant
//     pg_execute_server_program to itself.
//
// Hence the roles of a Supabase project, too, are made here.
const rolesSQL = `
create role postgres login createdb {createrole} bypassrls password '` + password + `'
create role anon nologin
create role authenticated nologin
create role service_role nologin bypassrls
create role authenticator login noinherit
grant anon, authenticated, service_role to authenticator
grant anon, authenticated, service_role, authenticator to postgres with admin option
grant pg_monitor, pg_signal_backend to postgres
alter database postgres owner to postgres
alter role ` + superuser + ` password null
`

// makeRoles makes them in a new data directory, without a server that anybody
// could reach meanwhile.
func makeRoles(ctx context.Context, l layout, b binaries, a account, data string) error {
	createrole := "createrole"
	if b.major < 16 {
		createrole = ""
	}
	cmd := command(ctx, b.path("postgres"), []string{"--single", "-D", data, "-c", "exit_on_error=on", "postgres"}, a, data)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(rolesSQL, "{createrole}", createrole))
	out, err := cmd.CombinedOutput()
	return l.said(ctx, "make the roles: postgres --single", out, err)
}
