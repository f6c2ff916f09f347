// Package ledger is the outside world of the fault harness: a service that
// records every effect it is asked for, and remembers them whatever becomes of
// the hosts that asked.
//
// A [Ledger] runs in the harness's process and is reached over HTTP on
// loopback. Hosts register a [Client] under the name "ledger", and tasks write
//
//	await tools.ledger.once({ tree: 'seed-7', path: '0.2', answer: 'minus-zero' })
//	await tools.ledger.each({ tree: 'seed-7', path: '0.3', fail: 'BROKE' })
//
// Both are an effect each time they are asked for: an [Entry]. They differ in
// what a repeat, a call with an idempotency key that has been seen, is answered:
// once gives the recorded answer again, each a new one. An answer has the number
// of its entry, so whoever sees one knows which try it came from:
//
//	{"n":17,"path":"0.2","value":-0}
//
// The auditor reads the entries in memory ([Ledger.Entries]), over HTTP
// (GET /entries) or from the file ([Read]).
package ledger
