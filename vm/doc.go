// Package vm runs JavaScript tasks in QuickJS, compiled to WebAssembly, and
// stops them wherever they await something of the outside. A waiting task is a
// [Snapshot], a few kilobytes; any host resumes it at that await with its
// locals as they were, because what a task is lies in the sandbox's memory.
//
// [Engine.Start] runs a task until it ends or waits, [Engine.Resume] settles
// calls of a waiting one and runs it on; one such run is a slice. The package
// knows no database and no network: it hands out [Call] values and takes
// [Reply] values. What a large task writes at each await is an increment: to
// resume it takes the chain of snapshots before it, see [Snapshot.Chain].
//
// # What a task sees
//
// ECMAScript as quickjs-ng 0.10 has it (testdata/language.txt says where that is
// not ES2023), and: tools (a lazy proxy: any
// tools.service.path(args) is a call), console, setTimeout and clearTimeout
// (durable), crypto.randomUUID and getRandomValues, Math.random seeded by the
// host, performance, __callHostTool__, __currentTaskRunId and
// __currentStackRunId. Its function is what module.exports is, or the default
// or runTask of module.exports, exports or an ES module; it is called with
// (input, tools). No files, no imports, no network, no environment.
//
// # Where things are
//
//	engine.go run.go pool.go   slices: Start, Resume, VMs for them
//	limits.go meter.go         what a task may use; the fuel that measures computing
//	turns.go                   who computes next, and how much memory there is for all
//	loaded.go                  a task's code, compiled once
//	sandbox.go host.go wasi.go one VM: calls into the guest and out of it
//	memory.go os_unix.go       what a VM's memory is made of
//	stack.go                   the guest's C stack: how far down it may go, and went
//	string.go                  what comes out of it: strings
//	rejection.go               promises rejected with nothing awaiting them
//	slice.go outcome.go call.go clip.go what a slice did
//	load.go syntax.go import.go source to function, what is refused, Check
//	prelude.js                 the half that runs in the guest
//	boot.go image.go images.go a booted engine as bytes, and those of others
//	delta.go codec.go snapshot.go a waiting VM as bytes; delta_v1.go as they were
//	chain.go                   those of a large body: what changed since the one before
//	edition.go module.go internal/harden the engine's wasm: pinned, rewritten, compiled
//	cache.go                   compiled code, kept between processes
//
// # What may be touched
//
// A new global or a new operation of the host function is prelude.js and
// host.go. Images are found by digest, so old snapshots go on with the prelude
// they were made with; what a new host must not do is take an operation away or
// change its arguments without changing hostABI. The same holds for
// layoutVersion and where boot.go puts things. [Engine.Identity] covers both
// and the engine's own bytes, not how internal/harden rewrites their code.
//
// No guest frame is on the stack when a snapshot is taken: a host call records
// and returns, and everything that waits is a promise on the guest's heap. The
// host holds no JavaScript value across a slice; what it calls are the anchors
// of an image, whose values hold in every VM of it.
//
// # Limits, and what is missing
//
// What a task computes, remembers, writes and asks for is limited, see [Limits].
// A slice at its CPU limit, or out of stack, ends there: the task cannot catch
// it. Work is counted where code loops or copies, so a slice may go over its
// limit by what one turn does, a few milliseconds at most.
//
// ArrayBuffer.prototype.transfer is taken away: views of the buffer went on to
// read and write what had been freed. Such a fault of the engine reaches no
// further than the VM's own memory, which is the task's.
//
// Error.prepareStackTrace and CallSite's getFunction are taken away, since they
// hand out the prelude's own functions, and Error.stackTraceLimit has no effect.
// A rejection that nothing awaits is a warning in the run's log, even if the
// task comes to await it in a later turn.
//
// While a task has an accessor at an index of Array.prototype or
// Object.prototype, JSON.stringify runs it, and so do calls and results.
package vm
