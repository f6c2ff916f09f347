// Package stack is a call stack kept in Postgres: what a task waits for is a
// row, and the task itself, while it waits, is a snapshot in a row.
//
// A task_run is one execution as its caller sees it. A stack_run is one call or
// one task body; a nested execution is one stack_run, both call and body.
//
//	task_runs     queued ──► processing ◄──► suspended ──► completed | failed | cancelled
//
//	stack_runs    a body                                     a call           a timer
//
//	              pending ─────────┐ (any host may claim)    pending          sleeping
//	                 ▼ Claim       │                            ▼ Claim          │ due_at
//	  Start ──► processing ──► completed | failed            processing          │
//	             │      ▲  Complete                             ▼ Complete       ▼
//	     Suspend ▼      │ a call ended (Complete of the call)  completed | failed | cancelled
//	     suspended_waiting_child
//
//	     Release, Reap: processing ──► pending, or, with a snapshot,
//	                    pending_resume (any host may resume) ── Claim ──► processing
//
// Clients of the original also write pending_execution, which is read as pending.
//
// Every verb is one [Store] method and one transaction; to fail is to Complete
// with an error. Two rules keep it right:
//
//   - Fencing. A row in processing names the host incarnation that holds it; each
//     write that ends or suspends it repeats that name in its where clause. A
//     body that waits is held by nobody; whoever resumes it names the sequence
//     number of the snapshot it started from. No row matched means [ErrClaimLost]:
//     somebody else went on, and this slice's work is dropped.
//   - The parent first. Suspend and Complete lock the row of the waiting body
//     before they touch its calls, so that a call that ends while its caller is
//     being suspended is seen by one of the two.
//
// In steady state a nested call costs one transaction: the replies that were
// given in this process, the caller's next snapshot and its next calls are
// committed together (see [Store.Suspend]). A crash before that commit repeats
// the calls under the same idempotency keys: at least once towards services,
// exactly once in what the task observes.
//
// The [Processor] is the flow on top; processor.go reads top to bottom. Most
// users need it and the reading methods of [Store] only.
package stack
