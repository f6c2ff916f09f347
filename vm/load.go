package vm

import (
	"cmp"
	"context"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
)

// A task's source is one of two languages: the body of an async function with
// module, exports and require, or an ES module. Which one shows by what parses.

// The body is evaluated as the method of an object literal, on the source's own
// lines. Source that closes the method early and opens something else has to
// go on with what may follow a method; [bodyCheck] is a context in which none
// of that can follow.
const (
	bodyHead, bodyTail   = "({async task(module,exports,require){", "\n}}).task"
	checkHead, checkTail = "async function task(module,exports,require){", "\n}"
)

func fileName(task string) string {
	if strings.HasPrefix(task, ".") { // a relative name would be resolved
		task = "_" + task
	}
	return task + ".js"
}

// source is a task's code on its way into a sandbox.
type source struct {
	file string
	code string // without byte order mark and hashbang
}

func newSource(task, code string) (source, *service.Error) {
	code = strings.TrimPrefix(code, "\ufeff")
	if strings.HasPrefix(code, "#!") {
		code = "//" + code[2:]
	}
	switch {
	case strings.TrimSpace(code) == "":
		return source{}, service.Errorf(service.CodeInvalidTask, "the task has no code")
	case !utf8.ValidString(code):
		return source{}, service.Errorf(service.CodeInvalidTask, "the task's code is not UTF-8")
	case strings.IndexByte(code, 0) >= 0:
		return source{}, service.Errorf(service.CodeInvalidTask, "the task's code holds a NUL character")
	}
	return source{fileName(task), code}, nil
}

// load brings a task's code into the sandbox. It returns the function of its body,
// or undefined for an ES module, which is then compiled under its file name;
// refused says what is wrong with the code.
//
// Nothing of the code is evaluated before it is known to be a body or a module
// and nothing else.
func (s *sandbox) load(ctx context.Context, p StartParams) (body uint64, refused *service.Error, err error) {
	src, refused := newSource(p.Name, p.Code)
	if refused != nil {
		return 0, refused, nil
	}
	bodyError, err := s.compileBody(ctx, src)
	if err != nil {
		return 0, nil, err
	}
	if bodyError == nil {
		body, err = s.eval(ctx, s.qjsEval, src.file, []byte(bodyHead+src.code+bodyTail), evalGlobal)
		if err == nil && body == s.image.Exception {
			_, err = s.describe(ctx)
			err = cmp.Or(err, errNoMemory) // it has compiled before
		}
		return body, nil, err
	}
	moduleError, refused, err := s.loadModule(ctx, src)
	switch {
	case err != nil || refused != nil:
		return 0, refused, err
	case moduleError == nil:
		return s.image.Undefined, nil, nil
	}
	return 0, invalidTask(pick(src, bodyError, moduleError)), nil
}

// Check says whether code can be published as a task: nil, or *SyntaxError, or
// *service.Error with code INVALID_TASK or IMPORT_UNSUPPORTED, or an error of
// the host itself, such as ErrBusy. It runs nothing of the code, and Limits hold for compiling it.
func (e *Engine) Check(ctx context.Context, name, code string) error {
	src, refused := newSource(name, code)
	if refused != nil {
		return refused
	}
	turn, err := e.turns.enter(ctx, uuid.Nil, uint64(len(e.base.memory)))
	if err != nil {
		return err
	}
	defer e.turns.leave(turn)
	s, err := e.take(ctx, e.base, uint32(len(e.base.memory)))
	if err != nil {
		return err
	}
	defer e.give(ctx, s)
	s.slice = &slice{limits: e.options.Limits}
	s.startMeter(ctx, e, turn, usage{})
	err = s.check(context.WithValue(context.WithoutCancel(ctx), sandboxKey{}, s), src)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *sandbox) check(ctx context.Context, src source) error {
	bodyError, err := s.compileBody(ctx, src)
	if err != nil {
		return uncompilable(err)
	}
	if bodyError == nil {
		return nil
	}
	moduleError, refused, err := s.loadModule(ctx, src)
	switch {
	case err != nil:
		return uncompilable(err)
	case refused != nil:
		return refused
	case moduleError == nil:
		return nil
	}
	return pick(src, bodyError, moduleError)
}

// uncompilable is the error of code that the engine's compiler broke off at:
// too deeply nested, or too large.
func uncompilable(err error) *service.Error {
	e := guestError(err)
	e.Code = service.CodeInvalidTask
	return e
}

// compileBody parses a body in both contexts and runs nothing.
func (s *sandbox) compileBody(ctx context.Context, src source) (*SyntaxError, error) {
	for _, w := range [][2]string{{bodyHead, bodyTail}, {checkHead, checkTail}} {
		v, err := s.eval(ctx, s.qjsEval, src.file, []byte(w[0]+src.code+w[1]), evalGlobal|evalCompileOnly)
		if err != nil {
			return nil, err
		}
		if v == s.image.Exception {
			return s.syntaxError(ctx, src, len(w[0]))
		}
		if err := s.release(ctx, v); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// loadModule compiles an ES module and resolves its imports, of which there
// must be none.
func (s *sandbox) loadModule(ctx context.Context, src source) (*SyntaxError, *service.Error, error) {
	v, err := s.eval(ctx, s.qjsLoad, src.file, []byte(src.code), evalModule)
	if err != nil || v != s.image.Exception {
		return nil, nil, err
	}
	thrown, err := s.describe(ctx)
	if err != nil {
		return nil, nil, err
	}
	if name, ok := refusedImport(thrown); ok {
		return nil, staticImport(src, name), nil
	}
	if thrown.Name != "SyntaxError" {
		return nil, thrown, nil
	}
	return place(src, thrown, 0), nil, nil
}
