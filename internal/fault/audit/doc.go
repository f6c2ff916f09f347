// Package audit judges what hosts did from outside: it reads the ledger and the
// tables, and reports what breaks one of the promises I1 to I7 (see [Promises]).
// It shares no code with the stack that it judges.
//
//	audit.Install(ctx, conn)              // before the first host starts
//	…                                     // hosts play trees, and are killed
//	report, err := audit.Audit(ctx, conn, audit.Config{Trees: …, Entries: …, Secrets: …, Rest: true})
//	fmt.Print(report)
//
// Rows alone do not show what they were before, so [Install] gives the database
// a history: a table in a schema of its own, to which triggers append each change
// of a row of public.stack_runs, public.task_runs, amber.snapshots and
// amber.replies, in the transaction that makes the change. What is not committed
// is not in it, and what is committed cannot be missing.
//
//	report.go   the promises, violations, the report as text
//	history.go  history.sql: the triggers
//	checks.go   what SQL alone finds, a check an entry: I1 to I4, I6
//	calls.go    the same of calls that are tried again, timed, put off or cancelled: I1, I2, I4, I6
//	rest.go     those that hold only when all has come to rest: I4
//	effects.go  rows against the ledger: I1, I6
//	played.go   trees against their oracle: I2, I5
//	secrets.go  secrets of the host, in every column of every table: I7
package audit
