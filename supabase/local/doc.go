// Package local gives a host a Supabase-like database without Supabase: it runs
// the machine's own Postgres binaries on a data directory ([Start]), or fetches
// some, once, into a cache where the machine has none; and it makes the roles,
// schemas and publication that a Supabase project has ([Prepare]).
//
//	server, err := local.Start(ctx, local.Config{Dir: "/var/lib/amber/postgres"})
//	if err != nil {
//		return err
//	}
//	defer server.Stop(context.WithoutCancel(ctx))
//	conn, err := pgx.Connect(ctx, server.URL())
//	...
//	err = local.Prepare(ctx, conn)
//
// One process owns a data directory at a time, by a lock that dies with it.
// Postgres itself outlives a killed owner, and the next one adopts it.
//
// The layout of a directory:
//
//	lock        held by the owner; holds its pid
//	data/       Postgres' own
//	run/        the unix socket
//	server.log  what Postgres says; server.log.1 is the log before it
//
// The password is "postgres", as everywhere in local Supabase: whoever can log
// in to the machine can use the database, but nothing else of the account that
// Postgres runs as, since the role is no superuser (see roles.go). What only one
// may do is done while the server is down, as that account: postgres --single
// -D data postgres. Data directories of earlier versions keep their superuser.
package local
