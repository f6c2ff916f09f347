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
//	     Release, Yield, Reap: processing ──► pending, or, with a snapshot,
//	                    pending_resume (any host may resume) ── Claim ──► processing
//
//	     Answer: a call in any of these states ──► completed, in place of whoever holds it
//
//	     Again:  processing, or waiting ──► sleeping ── due_at ──► pending: a call that
//	             failed, or a body that begins anew; one that is to begin later is born so
//
//	     Cancel, Expire: a body that has begun is interrupted: its calls ──► cancelled, those
//	             below it first, and it ──► pending_resume, to go on when they have ended;
//	             anything else ──► its end
//
//	     RetryRun: failed ──► suspended_waiting_child or pending_resume (a body, from its snapshot);
//	                    failed ──► pending (a call, under another key); cancelled ──► pending or sleeping
//
// Clients of the original also write pending_execution, which is read as pending.
//
// What it promises, whatever happens to hosts, connections and Postgres:
//
//	I1  a completed call's reply is never changed or lost
//	I2  a task never observes two results for one await
//	I3  no two hosts commit for one run at once
//	I4  a run ends, or is parked with a wake condition, or is listed as stuck
//	I5  resuming equals never having stopped: the same result, logs and order of calls, to the byte
//	I6  a service sees one idempotency key per call, however often it is tried
//	I7  no secret of the host is in a snapshot, log or row
//
// They are checked by an auditor that knows nothing of this package, while all
// fails that can be made to: see internal/fault and docs/faults.md.
//
// Every verb is one [Store] method and one transaction; to fail is to Complete
// with an error. Two rules keep it right:
//
//   - Fencing. A row in processing names the host incarnation that holds it; each
//     write that ends or suspends it repeats that name in its where clause. A
//     body that waits is held by nobody. Whoever ends or suspends a body, held or
//     not, names the sequence number of the snapshot it started from. No row
//     matched means [ErrClaimLost]: somebody else went on, and this slice's work
//     is dropped.
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
// A host that is lost (it died, was stopped or cut off for longer than its lease)
// writes nothing more under its old name; what it held goes to the others at once.
// A body during which one host after another is lost is parked: see crashes.go.
//
// Any number of hosts work on one database. They share the rows that are free
// (claimed with skip locked) and for which they have the engine, the keys
// and the memory; what no host that runs can go on with is parked until one can. They judge leases by the
// database's clock alone, and need neither LISTEN (see Config.Poll) nor anything
// else that a session keeps: on a pool whose statements have no names, all of it
// works through a pooler that gives each transaction another session. No transaction waits for a second
// connection. A host that is told to leave begins nothing more and leaves to the
// others at once what its commits would have given to it; what does not come to
// rest in time is released to its last snapshot.
//
// What was sealed with an old key is sealed anew by [Store.Reseal], while hosts
// work.
//
// A body that waits has one key frame in amber.snapshots itself, and, if it holds
// much, increments to it in amber.increments, whose rows are rows of the other
// table too. A key frame takes the place of all of them, the end of the body takes
// them away. One that failed keeps them until a committed slice has seen that, so that
// its run can be retried: see failure.go.
//
// The [Processor] is the flow on top; processor.go reads top to bottom. Most
// users need it and the reading methods of [Store] only.
package stack
