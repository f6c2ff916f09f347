package local_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/local"
	"github.com/jackc/pgx/v5"
)

// TestPrepare has a server of its own: roles belong to all of its databases.
func TestPrepare(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	oldData(t, dir) // without the roles that a new one has
	s := start(t, local.Config{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	database := func(name string) string {
		run(t, s, "create database "+name)
		return strings.Replace(s.URL(), "/postgres?", "/"+name+"?", 1)
	}

	var urls []string
	for i := range 4 {
		urls = append(urls, database(fmt.Sprint("d", i)))
	}
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range 12 {
		conn := connect(t, urls[i%len(urls)])
		wg.Go(func() {
			<-gate
			for range 3 {
				if err := local.Prepare(t.Context(), conn); err != nil {
					t.Error(err)
				}
			}
		})
	}
	close(gate)
	wg.Wait()

	conn := connect(t, urls[0])
	t.Run("roles", func(t *testing.T) {
		const want = "anon:nologin authenticated:nologin authenticator:login,noinherit service_role:nologin,bypassrls"
		scan(t, conn, want, `
			select string_agg(rolname || ':' || case when rolcanlogin then 'login' else 'nologin' end
			  || case when rolinherit then '' else ',noinherit' end
			  || case when rolbypassrls then ',bypassrls' else '' end, ' ' order by rolname)
			from pg_roles where rolname in ('anon', 'authenticated', 'service_role', 'authenticator')`)
		scan(t, conn, "anon authenticated service_role", `
			select string_agg(r.rolname, ' ' order by r.rolname) from pg_auth_members m
			join pg_roles r on r.oid = m.roleid where m.member = 'authenticator'::regrole`)
	})
	t.Run("publication", func(t *testing.T) {
		scan(t, conn, "supabase_realtime", `select string_agg(pubname, ' ') from pg_publication where not puballtables`)
	})
	t.Run("claims", func(t *testing.T) {
		const id = "00000000-0000-7000-8000-000000000001"
		const ask = `select concat_ws(' ', auth.uid(), auth.role(), auth.email(), auth.jwt() ->> 'aal')`
		scan(t, conn, "", ask)
		if _, err := conn.Exec(t.Context(), `set role anon; set request.jwt.claims = '{"sub":"`+id+`","role":"authenticated","email":"a@b.c","aal":"aal1"}'`); err != nil {
			t.Fatal(err)
		}
		scan(t, conn, id+" authenticated a@b.c aal1", ask)
		if _, err := conn.Exec(t.Context(), `set request.jwt.claim.role = 'service_role'`); err != nil {
			t.Fatal(err)
		}
		scan(t, conn, "service_role", `select auth.role()`)
		if _, err := conn.Exec(t.Context(), `reset all; set request.jwt.claims = ''; reset role`); err != nil {
			t.Fatal(err)
		}
		scan(t, conn, "", ask)
	})
	t.Run("keeps what is there", func(t *testing.T) {
		conn := connect(t, database("own"))
		if _, err := conn.Exec(t.Context(), `create schema auth; create function auth.role() returns text language sql as $$ select 'mine' $$`); err != nil {
			t.Fatal(err)
		}
		if err := local.Prepare(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		scan(t, conn, "mine", `select auth.role()`)
		scan(t, conn, "auth.jwt()", `select to_regprocedure('auth.jwt()')::text`)
	})
	t.Run("leaves Supabase alone", func(t *testing.T) {
		conn := connect(t, database("project"))
		if _, err := conn.Exec(t.Context(), `create role supabase_admin`); err != nil {
			t.Fatal(err)
		}
		if err := local.Prepare(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		scan(t, conn, "public", `select string_agg(nspname, ' ') from pg_namespace where nspname in ('auth', 'extensions', 'public')`)
	})
}

func scan(t *testing.T, conn *pgx.Conn, want, sql string) {
	t.Helper()
	var got string
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil || got != want {
		t.Errorf("%s\n= %q, %v, want %q", sql, got, err, want)
	}
}
