package service

import (
	"errors"
	"fmt"
	"time"
)

// Error is an error that crosses to JavaScript or HTTP. Its JSON form is what
// clients find in task_runs.error and stack_runs.error.
type Error struct {
	Message string `json:"message"`
	Name    string `json:"name,omitempty"`  // JavaScript's error.name, "Error" when empty
	Code    string `json:"code,omitempty"`  // stable, for programs: "TASK_NOT_FOUND"
	Stack   string `json:"stack,omitempty"` // JavaScript stack with the task's own file and lines
	Status  int    `json:"status,omitempty"`

	RetryAfter time.Duration `json:"-"` // how long the service wants to be left alone; see Retryable
}

func (e *Error) Error() string {
	if e.Code != "" {
		return fmt.Sprintf("%s (%s)", e.Message, e.Code)
	}
	return e.Message
}

// Codes that more than one package gives or tests for.
const (
	CodeTaskNotFound      = "TASK_NOT_FOUND"      // no task_functions row of that name
	CodeInvalidTask       = "INVALID_TASK"        // code is empty, does not parse, or exports no function
	CodeInvalidInput      = "INVALID_INPUT"       // input is not JSON, or not storable as jsonb
	CodeInvalidArgument   = "INVALID_ARGUMENT"    // a call's arguments are not what the service takes
	CodeInvalidResult     = "INVALID_RESULT"      // result or argument has no JSON form, or not one jsonb can hold
	CodeUnknownService    = "UNKNOWN_SERVICE"     // tools.<name> that nothing answers
	CodeUnknownMethod     = "UNKNOWN_METHOD"      // the service has no such method
	CodeServiceError      = "SERVICE_ERROR"       // the service failed with an error of its own
	CodeTaskDeadlock      = "TASK_DEADLOCK"       // nothing left to run and nothing to wait for
	CodeEngine            = "ENGINE_ERROR"        // the sandbox trapped; the run is lost, the host is not
	CodeCPULimit          = "CPU_LIMIT"           // a slice, or all of a run's, computed for too long
	CodeMemoryLimit       = "MEMORY_LIMIT"        // the JavaScript heap is full
	CodeStackLimit        = "STACK_LIMIT"         // too deep a recursion
	CodeResultTooLarge    = "RESULT_TOO_LARGE"    // of a task or a service
	CodeArgumentsTooLarge = "ARGUMENTS_TOO_LARGE" // of one call
	CodeSnapshotTooLarge  = "SNAPSHOT_TOO_LARGE"  // a task that waits remembers too much
	CodeDepthLimit        = "DEPTH_LIMIT"         // tasks are nested in each other too deep
	CodeNestedLimit       = "NESTED_LIMIT"        // a run has too many tasks nested in it
	CodeCancelled         = "CANCELLED"           // the caller ended before this call did
	CodeTimeout           = "TIMEOUT"             // a call or a run took longer than it may
	CodeImportUnsupported = "IMPORT_UNSUPPORTED"  // a task used import
)

// Errorf makes an *Error with a code; it does not wrap.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsError returns err as an *Error: itself if it wraps one, else one with code
// [CodeServiceError] and err's text.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeServiceError, Message: err.Error()}
}
