package vm

import (
	"errors"
	"strings"

	"github.com/amberhost/amber/service"
)

// guestError is what a trap means to the task. The engine's own words go to
// the log only: they name its functions, not the task's.
func guestError(err error) *service.Error {
	if errors.Is(err, errStackOverflow) || strings.Contains(err.Error(), "wasm error: stack overflow") {
		return &service.Error{Name: "RangeError", Message: "Maximum call stack size exceeded"}
	}
	if errors.Is(err, errNoMemory) {
		return &service.Error{Name: "InternalError", Message: "out of memory"}
	}
	return &service.Error{Name: "InternalError", Code: service.CodeEngine, Message: "the sandbox stopped: " + firstLine(err.Error())}
}

func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(text, " (recovered by wazero)")
}

var errNoMemory = errors.New("guest memory is exhausted")
