// Package harness plays random trees of tasks on real hosts and a real Postgres,
// spoils everything that can be spoilt on one machine meanwhile, and has the
// auditor judge what came of it.
//
// [Run] reads top to bottom in harness.go; hosts.go keeps the hosts' processes
// alive, chaos.go spoils things, postgres.go is the database and what can be done
// to it, traffic.go does what clients do besides, fate.go says which trees are
// cancelled, and when, which have only so much time, and which begin later.
//
// Hosts are built with the tag failpoints: each of their lives ends at a point
// that was chosen for it (see package failpoint), unless something else ends it
// first. Their connections go through a proxy (package pgproxy), one each.
package harness
