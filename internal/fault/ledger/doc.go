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
// What passes by itself is asked for with flaky: the first so many tries under one
// key are refused, with status 503 or 429, so that they are made again. Each is an
// entry all the same. A task that is tried again as a whole makes its calls under
// new keys: with turn, an answer says how many have asked for this path so far.
//
//	await tools.with({ retries: 3, backoff: 5 }).ledger.once({ tree: 'seed-7', path: '0.4', flaky: 2 })
//	await tools.ledger.each({ tree: 'seed-7', path: '0.5.0', turn: true }) // {"n":19,"path":"0.5.0","turn":2,"value":null}
//
// The auditor reads the entries in memory ([Ledger.Entries]), over HTTP
// (GET /entries) or from the file ([Read]).
package ledger
