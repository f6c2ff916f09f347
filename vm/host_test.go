package vm

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestHostArguments hands a task's code the host function itself, which no task
// gets: what it passes runs nothing and does not take the host along.
func TestHostArguments(t *testing.T) {
	t.Parallel()
	e := insideEngine(t, Options{Concurrency: 1})
	for code, want := range map[string]error{
		`host(4, '"x"', 0, 0)`: nil,
		`host(4, { toString() { console.log('nested'); return '"x"' } }, 0, 0)`: errHostCall,
		`host(4, { toString() { throw new Error('x') } }, 0, 0)`:                errHostCall,
		`host(4, Symbol('x'), 0, 0)`:                                            errHostCall,
		`host(4, 1, 0, 0)`:                                                      errHostCall,
		`host(5, 1n, 0, 0)`:                                                     errHostCall,
		`host(3, 'info', null, 0)`:                                              errHostCall,
		`host(3, [], '"x"', 0)`:                                                 errHostCall,
		`host(1, 0, '{}', 0)`:                                                   errHostCall,
		`host(1, 1.5, '{}', 0)`:                                                 errHostCall,
		`host(1, true, '{}', 0)`:                                                errHostCall,
		`host(1, 1, {}, 0)`:                                                     errHostCall,
		`host(2, {}, 0, 0)`:                                                     errHostCall,
		`host(6, { valueOf() { return 5 } }, 0, 0)`:                             errHostCall,
		`host(6, 1e9, 0, 0)`:                                                    errHostCall,
		`host(6, -1, 0, 0)`:                                                     errHostCall,
		`host(99, 'x', 0, 0)`:                                                   errHostCall,
		`host({}, 'x', 0, 0)`:                                                   errHostCall,
	} {
		if err := e.callWithHost(t, e.sandboxWithSlice(t), code); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", code, err, want)
		}
	}
	s := e.sandboxWithSlice(t)
	s.inHost = true
	if err := e.callWithHost(t, s, `host(3, 'info', '"x"', 0)`); !errors.Is(err, errHostReentered) {
		t.Errorf("a call from within a call: %v", err)
	}
}

func (e *Engine) sandboxWithSlice(t *testing.T) *sandbox {
	t.Helper()
	s, err := e.take(t.Context(), e.base, uint32(len(e.base.memory)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close(context.Background()) })
	s.slice = &slice{}
	return s
}

// callWithHost runs code with the host function in its scope.
func (e *Engine) callWithHost(t *testing.T, s *sandbox, code string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), sandboxKey{}, s), time.Minute)
	defer cancel()
	proxied, err := s.export(ctx, "QJS_CreateFunctionProxy", uint64(s.image.Context), 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.eval(ctx, s.qjsEval, "test.js", []byte(`(function (proxied) {
		const { call } = Function.prototype; let host;
		Function.prototype.call = function () { host = this };
		proxied();
		Function.prototype.call = call;
		`+code+`})`), evalGlobal)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.call(ctx, f, proxied)
	return err
}
