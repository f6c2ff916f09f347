package vm

import (
	"errors"
	"strings"
	"time"

	"github.com/amberhost/amber/service"
)

// Limits are what a task may use. A zero field means the default. A task that
// reaches a limit ends with an error, but for those that say what else happens;
// the host and other tasks do not notice.
type Limits struct {
	// CPU is how long one slice may compute, as fuel: work is counted and not
	// timed, so a busy machine takes nothing from it. A slice also ends when three
	// times as long has passed by the clock. Default 10 s. CPU_LIMIT.
	CPU time.Duration
	// RunCPU is the same for all slices of a body together. Default 10 minutes.
	RunCPU time.Duration
	// Memory is the JavaScript heap in bytes. What does not fit throws
	// InternalError: out of memory, which a task may catch. Default 64 MiB. MEMORY_LIMIT.
	Memory uint32
	// Lines and LineBytes bound the console output of one slice, RunLines and
	// RunLineBytes that of all slices. More lines are dropped, and the last one
	// kept says so. Defaults 10,000, 4 MiB, 100,000 and 32 MiB.
	Lines, LineBytes, RunLines, RunLineBytes int
	// Calls is how many calls may be in flight; more of them wait in the task
	// until others have ended. Default 1,000.
	Calls int
	// Value is the size in bytes of a result (RESULT_TOO_LARGE), or of the
	// arguments of one call, which throws (ARGUMENTS_TOO_LARGE). All calls that one
	// slice makes may have eight times as much, or it ends. Default 8 MiB.
	Value int
	// Snapshot is the size in bytes of a snapshot, compressed, with those that it is
	// based on: of what a task that waits remembers. Default 16 MiB. SNAPSHOT_TOO_LARGE.
	Snapshot int
}

// maxLineBytes is the size of one line of console output; the rest is cut off.
const maxLineBytes = 64 << 10

// DefaultLimits are those of a zero Limits.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	orDefault(&l.CPU, 10*time.Second)
	orDefault(&l.RunCPU, 10*time.Minute)
	orDefault(&l.Memory, 64<<20)
	orDefault(&l.Lines, 10_000)
	orDefault(&l.LineBytes, 4<<20)
	orDefault(&l.RunLines, 100_000)
	orDefault(&l.RunLineBytes, 32<<20)
	orDefault(&l.Calls, 1_000)
	orDefault(&l.Value, 8<<20)
	orDefault(&l.Snapshot, 16<<20)
	return l
}

func orDefault[T int | uint32 | time.Duration](at *T, value T) {
	if *at <= 0 {
		*at = value
	}
}

var (
	errCPU           = errors.New("CPU time limit exceeded")
	errStackOverflow = errors.New("guest stack overflow")
	errNoMemory      = errors.New("guest memory is exhausted")
)

// guestError is what a trap means to the task. The engine's own words go to
// the log only: they name its functions, not the task's.
func guestError(err error) *service.Error {
	switch {
	case errors.Is(err, errCPU):
		return &service.Error{Name: "Error", Code: service.CodeCPULimit, Message: errCPU.Error()}
	case errors.Is(err, errStackOverflow), strings.Contains(err.Error(), "wasm error: stack overflow"):
		return &service.Error{Name: "RangeError", Code: service.CodeStackLimit, Message: "Maximum call stack size exceeded"}
	case errors.Is(err, errNoMemory):
		return &service.Error{Name: "InternalError", Code: service.CodeMemoryLimit, Message: outOfMemory}
	}
	return &service.Error{Name: "InternalError", Code: service.CodeEngine, Message: "the sandbox stopped: " + firstLine(err.Error())}
}

// outOfMemory is the message of QuickJS's own error.
const outOfMemory = "out of memory"

// limitOf gives an error that the engine threw at a limit its code.
func limitOf(e *service.Error) *service.Error {
	if e.Name == "InternalError" && e.Message == outOfMemory && e.Code == "" {
		e.Code = service.CodeMemoryLimit
	}
	return e
}

// nameExhaustion finds out that memory was full where the engine could not make
// the error that says so, and threw null, or the prelude could not describe it.
func (s *sandbox) nameExhaustion(out *Outcome) {
	if out.Err == nil {
		return
	}
	switch out.Err.Message { // as the prelude writes it
	case "the task threw null", "the task threw [uninitialized]", "the task threw a value that cannot be described":
		if s.full() {
			out.Err = guestError(errNoMemory)
		}
	}
}

// full reports whether memory has grown to about its limit.
func (s *sandbox) full() bool {
	used := uint64(s.memory.Size()) - uint64(len(s.image.memory))
	return used >= uint64(s.slice.limits.Memory)*3/4
}

func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(text, " (recovered by wazero)")
}

// callsFactor times the Value limit is what the calls of one slice may have: the
// host keeps them all until the slice is done.
const callsFactor = 8

func tooLarge(code, what string, size, most int) *service.Error {
	return service.Errorf(code, "%s is %d bytes, at most %d: keep large data elsewhere and pass its name", what, size, most)
}
