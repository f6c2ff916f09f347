package wire

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// Codes of a [Problem] that concern the request and not what it asks for.
const (
	CodeInvalidJSON      = "INVALID_JSON"
	CodeInvalidRequest   = "INVALID_REQUEST"
	CodeMethodNotAllowed = "METHOD_NOT_ALLOWED"
	CodeNotFound         = "NOT_FOUND"
	CodeForbidden        = "FORBIDDEN"
	CodeTooLarge         = "PAYLOAD_TOO_LARGE"
	CodeTimeout          = "REQUEST_TIMEOUT"
	CodeInternal         = "INTERNAL_ERROR"
	CodeKeyMissing       = "KEY_MISSING"
	CodeUnavailable      = "DATABASE_UNAVAILABLE"
	CodeDraining         = "DRAINING"
	CodeBusy             = "BUSY"
)

// Problem is an error as a client of a function reads it.
type Problem struct {
	Status  int    `json:"-"`     // of the response
	Message string `json:"error"` // for people
	Code    string `json:"code"`  // for programs
	Details string `json:"details,omitempty"`
	File    string `json:"file,omitempty"` // where in a task's code
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`

	RetryAfter time.Duration `json:"-"` // when to try again, if that may help
}

func (p *Problem) Error() string { return p.Message }

// statuses are those of service codes that do not name one of their own.
var statuses = map[string]int{
	service.CodeTaskNotFound:      http.StatusNotFound,
	service.CodeInvalidInput:      http.StatusBadRequest,
	service.CodeInvalidArgument:   http.StatusBadRequest,
	service.CodeInvalidTask:       http.StatusUnprocessableEntity,
	service.CodeImportUnsupported: http.StatusUnprocessableEntity,
}

// ProblemOf returns what a client may know of err: all of a [*Problem] or a
// [*service.Error]; of any other error no more than whether to try again.
func ProblemOf(err error) *Problem {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem
	}
	var e *service.Error
	if !errors.As(err, &e) {
		if stack.Unavailable(err) {
			return &Problem{Status: http.StatusServiceUnavailable, Code: CodeUnavailable,
				Message: "The database cannot be reached now. Nothing was lost; try again."}
		}
		if errors.Is(err, context.Canceled) { // nobody else's: who has gone away hears no answer
			return &Problem{Status: http.StatusServiceUnavailable, Code: CodeDraining,
				Message: "This host is stopping. Nothing was lost; try again."}
		}
		if errors.Is(err, vm.ErrBusy) {
			return &Problem{Status: http.StatusServiceUnavailable, Code: CodeBusy,
				Message: "Too many tasks wait for their turn on this host. Nothing was changed; try again in a moment."}
		}
		if errors.Is(err, stack.ErrRunNotFound) { // it was there a moment ago, and has been removed
			return &Problem{Status: http.StatusNotFound, Code: CodeRunNotFound, Message: "There is no such run any more."}
		}
		if errors.Is(err, keys.ErrUnknownKey) {
			return &Problem{Status: http.StatusServiceUnavailable, Code: CodeKeyMissing,
				Message: "This host lacks the key that this is sealed with. Nothing was lost; a host that has it can read it."}
		}
		return &Problem{Status: http.StatusInternalServerError, Code: CodeInternal,
			Message: "An unexpected server error occurred while processing the request."}
	}
	problem = &Problem{Status: e.Status, Message: e.Message, Code: e.Code, RetryAfter: e.RetryAfter}
	if problem.Status < 400 || problem.Status > 599 {
		problem.Status = statuses[e.Code]
	}
	if problem.Status == 0 {
		problem.Status = http.StatusBadRequest
	}
	return problem
}

// Fail answers a request with what went wrong, and logs what the client is not told.
func Fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	problem := ProblemOf(err)
	if problem.Status >= 500 && !errors.Is(err, context.Canceled) {
		log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	problem.SayWhen(w.Header())
	JSON(w, problem.Status, problem)
}

// SayWhen sets Retry-After if the request may be taken later.
func (p *Problem) SayWhen(header http.Header) {
	if p.RetryAfter > 0 || p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		header.Set("Retry-After", strconv.Itoa(max(1, int(p.RetryAfter.Round(time.Second)/time.Second))))
	}
}
