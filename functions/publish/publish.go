// Package publish is the edge function that stores tasks.
//
//	POST /publish  {"name": "hello", "code": "module.exports = ...", "description": "...", "retention": "720h"}
//	→ 200 {"name": "hello", "change": "created"}
//
// Code that does not parse is refused with its file, line and column, and the
// version that was there stays. [Put] is the same for files ([Read]).
package publish

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

type handler struct {
	store  *stack.Store
	engine *vm.Engine
	log    *slog.Logger
}

// New returns the function's handler.
func New(store *stack.Store, engine *vm.Engine, log *slog.Logger) http.Handler {
	return &handler{store: store, engine: engine, log: log}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		wire.Fail(w, r, h.log, err)
	}
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return &wire.Problem{Status: http.StatusMethodNotAllowed, Code: wire.CodeMethodNotAllowed,
			Message: "POST a task to publish it."}
	}
	body, err := wire.ReadObject(r)
	if err != nil {
		return err
	}
	source, err := sourceOf(body)
	if err != nil {
		return err
	}
	change, err := Put(r.Context(), h.store, h.engine, source)
	if err != nil {
		return problemOf(err)
	}
	h.log.InfoContext(r.Context(), "task "+change, "task", source.Name)
	wire.JSON(w, http.StatusOK, struct {
		Name   string `json:"name"`
		Change string `json:"change"`
	}{source.Name, change})
	return nil
}

func sourceOf(body wire.Object) (s Source, err error) {
	fields := []struct {
		key      string
		to       *string
		required bool
	}{
		{"name", &s.Name, true},
		{"code", &s.Code, true},
		{"description", &s.Description, false},
		{"retention", &s.Retention, false},
	}
	for _, field := range fields {
		text, ok := body.String(field.key)
		switch {
		case !ok:
			return s, malformed("'" + field.key + "' must be a string.")
		case field.required && !body.Has(field.key):
			return s, malformed("'" + field.key + "' is required and must be a string.")
		}
		*field.to = text
	}
	return s, nil
}

func malformed(message string) error {
	return &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest, Message: message}
}

// problemOf tells a syntax error's place apart from its message.
func problemOf(err error) error {
	var syntax *vm.SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	return &wire.Problem{Status: http.StatusUnprocessableEntity, Code: service.CodeInvalidTask,
		Message: syntax.Message, File: syntax.File, Line: syntax.Line, Column: syntax.Column}
}

// Put stores a task and returns what that changed: "created", "updated" or
// "unchanged". Its error is a [*vm.SyntaxError] for code that does not parse, a
// [*service.Error] for anything else that is wrong with the source; nothing has
// changed then.
func Put(ctx context.Context, store *stack.Store, engine *vm.Engine, s Source) (change string, err error) {
	if err := s.validate(); err != nil {
		return "", err
	}
	retention, err := s.retention()
	if err != nil {
		return "", err
	}
	if err := engine.Check(ctx, s.Name, s.Code); err != nil {
		return "", err
	}
	return store.Publish(ctx, stack.Task{Name: s.Name, Code: s.Code, Description: s.description(), Retention: retention})
}
