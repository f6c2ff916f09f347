// Package failpoint lets a process be killed at named points of its work: before
// each statement, before and after each commit, before and after each call of a
// service. It is compiled in with the build tag failpoints; without it, its
// functions do nothing.
//
// The points are
//
//	statement NAME    the statement of that name is about to be sent
//	done NAME         it has been answered, outside a transaction
//	commit ACT        the transaction of that name is about to be committed
//	committed ACT     it has been
//	call              a service is about to be called
//	called            it has answered, and nobody has been told
//
// A statement's name is what stands in the comment at its beginning.
//
// The environment says where a process dies. AMBER_FAILPOINTS is a list of
// POINT=N, separated by semicolons: the Nth time that it comes to that point, it
// writes the point's name as a line to the file that AMBER_FAILPOINTS_LOG names,
// and dies by SIGKILL.
package failpoint

import "strings"

// The environment variables.
const (
	Env    = "AMBER_FAILPOINTS"
	LogEnv = "AMBER_FAILPOINTS_LOG"
)

// The points around a call of a service.
const (
	Call   = "call"
	Called = "called"
)

// NameOf is the name that stands in the comment at the beginning of a statement, or "".
func NameOf(sql string) string {
	sql = strings.TrimSpace(sql)
	if !strings.HasPrefix(sql, "/* ") {
		return ""
	}
	name, _, _ := strings.Cut(sql[len("/* "):], " */")
	return name
}
