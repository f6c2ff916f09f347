package vm_test

import (
	"strings"
	"testing"

	"github.com/amberhost/amber/service"
)

// TestBadTasks: whatever is wrong with a task ends its run with an error that
// says what, and nothing else.
func TestBadTasks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ code, input, errName, errCode, message, stack string }{
		"empty code":           {code: "", errCode: service.CodeInvalidTask, message: "no code"},
		"white space":          {code: " \n ", errCode: service.CodeInvalidTask, message: "no code"},
		"NUL in the code":      {code: "'\x00'", errCode: service.CodeInvalidTask, message: "NUL"},
		"not UTF-8":            {code: "'\xff'", errCode: service.CodeInvalidTask, message: "UTF-8"},
		"a comment":            {code: "// nothing", errCode: service.CodeInvalidTask, message: "exports no function"},
		"a number":             {code: "module.exports = 5", errCode: service.CodeInvalidTask, message: "module.exports is 5, not a function: write module.exports = async function (input, { tools }) { ... }"},
		"an array":             {code: "module.exports = [1]", errCode: service.CodeInvalidTask, message: "module.exports is an array, not a function: "},
		"bad exports":          {code: "module.exports = new Proxy({}, { get() {}, ownKeys() { throw 1 } })", errCode: service.CodeInvalidTask, message: "exports no function"},
		"another export":       {code: "exports.handler = () => 1", errCode: service.CodeInvalidTask, message: "module.exports has handler, but neither default nor runTask: write module.exports = async function (input, { tools }) { ... }"},
		"compiled default":     {code: "Object.defineProperty(exports, '__esModule', {}); exports.default = {}", errCode: service.CodeInvalidTask, message: "module.exports.default is an object, not a function: "},
		"a method by default":  {code: "export default { run() {} }", errCode: service.CodeInvalidTask, message: "export default is an object, not a function: write export default async function (input, { tools }) { ... }"},
		"named export":         {code: "export async function handler() {}", errCode: service.CodeInvalidTask, message: "the module exports handler, but neither default nor runTask: write export default async function (input, { tools }) { ... }"},
		"seven exports":        {code: "export const a = 1, b = 1, c = 1, d = 1, e = 1, f = 1, g = 1", errCode: service.CodeInvalidTask, message: "the module exports a, b, c, d, e and 2 more, but"},
		"no export":            {code: "export {}", errCode: service.CodeInvalidTask, message: "exports no function: write export default async function (input, { tools }) { ... }"},
		"does not parse":       {code: "\n\nlet = = 1", errName: "SyntaxError", errCode: service.CodeInvalidTask, message: "task.js:3:"},
		"module, no parse":     {code: "export default {\n  a b }", errName: "SyntaxError", errCode: service.CodeInvalidTask, message: "task.js:2:"},
		"import":               {code: "import fs from 'fs'; export default () => fs", errCode: service.CodeImportUnsupported, message: `task.js:1: import of "fs": a task is one file: bundle what it needs into it (esbuild --bundle --format=esm), or call`},
		"dynamic import":       {code: "module.exports = () => import('fs')", errCode: service.CodeImportUnsupported, message: `import of "fs": a task is one file: bundle`},
		"require":              {code: "module.exports = () => require('fs')", errCode: service.CodeImportUnsupported, message: `require of "fs": a task is one file: bundle`},
		"fetch":                {code: "module.exports = () => {\n fetch('/') }", errName: "ReferenceError", message: "fetch is not defined: a task reaches the outside through services (tools.<service>...)", stack: "task.js:2:"},
		"fetch while loading":  {code: "const r = await fetch('/')", errName: "ReferenceError", message: "fetch is not defined: a task reaches the outside"},
		"process":              {code: "module.exports = async () => process.env.X", errName: "ReferenceError", message: "process is not defined: a task has no environment; keep settings in tools.keystore"},
		"Deno":                 {code: "export default async () => Deno.env.get('X')", errName: "ReferenceError", message: "Deno is not defined: a task has no environment; keep settings in tools.keystore"},
		"setInterval":          {code: "module.exports = () => setInterval(() => {}, 1)", errName: "ReferenceError", message: "setInterval is not defined: loop with await tools.sleep(ms)"},
		"URL":                  {code: "module.exports = () => new URL('http://x')", errName: "ReferenceError", message: "URL is not defined: tasks have the ECMAScript built-ins, console, tools, crypto.randomUUID and setTimeout"},
		"Buffer":               {code: "module.exports = () => Buffer.from('x')", errName: "ReferenceError", message: "Buffer is not defined: tasks have"},
		"error":                {code: "module.exports = () => {\n  null.x\n}", errName: "TypeError", message: "property 'x' of null", stack: "task.js:2:3"},
		"error on line 1":      {code: "module.exports = () => { null.x }", errName: "TypeError", message: "property 'x' of null", stack: "task.js:1:26"},
		"error while loading":  {code: "\nnull.x", errName: "TypeError", message: "property 'x' of null", stack: "task.js:2:"},
		"error in a module":    {code: "null.x; export default 1", errName: "TypeError", message: "property 'x' of null", stack: "task.js:1:"},
		"code of the error":    {code: "module.exports = () => { throw Object.assign(new Error('m'), { code: 'C' }) }", errName: "Error", errCode: "C", message: "m"},
		"subclass":             {code: "class Bad extends Error { name = 'Bad' } module.exports = () => { throw new Bad('m') }", errName: "Bad", message: "m"},
		"throws a string":      {code: "module.exports = async () => { throw 'boom' }", message: "boom"},
		"throws an object":     {code: "module.exports = async () => { throw { a: 1 } }", message: "the task threw { a: 1 }"},
		"throws null":          {code: "module.exports = async () => { throw null }", message: "the task threw null"},
		"throws undefined":     {code: "module.exports = async () => { throw undefined }", message: "the task threw undefined"},
		"throws a bad getter":  {code: "module.exports = () => { throw { get message() { throw 1 }, get name() { throw 2 } } }", message: "the task threw"},
		"throws a proxy":       {code: "module.exports = () => { throw new Proxy({}, { get() { throw 1 }, ownKeys() { throw 2 }, getPrototypeOf() { throw 3 } }) }", message: "the task threw"},
		"cyclic result":        {code: "module.exports = () => { const a = {}; a.a = a; return a }", errCode: service.CodeInvalidResult, message: "the task's result cannot be written as JSON: it contains itself (a circular reference)"},
		"BigInt result":        {code: "module.exports = () => 1n", errCode: service.CodeInvalidResult, message: "the task's result cannot be written as JSON: it holds a BigInt; return String(n) or Number(n)"},
		"toJSON throws":        {code: "module.exports = () => ({ toJSON() { throw new Error('no') } })", errCode: service.CodeInvalidResult, message: "the task's result cannot be written as JSON: no"},
		"deadlock":             {code: "module.exports = () => new Promise(() => {})", errCode: service.CodeTaskDeadlock, message: "nothing will settle"},
		"deadlock, loading":    {code: "await new Promise(() => {})", errCode: service.CodeTaskDeadlock, message: "nothing will settle"},
		"BigInt argument":      {code: "module.exports = async () => {\n await tools.a.b('x', [1n]) }", errName: "TypeError", message: "argument 2 of tools.a.b holds a BigInt: pass String(n) or Number(n)", stack: "task.js:2:"},
		"cyclic argument":      {code: "module.exports = async () => { const a = []; a[0] = a; await tools.a.b(a) }", errName: "TypeError", message: "argument 1 of tools.a.b contains itself (a circular reference)"},
		"argument throws":      {code: "module.exports = () => tools.a.b({ toJSON() { throw new Error('no') } })", errName: "TypeError", message: "argument 1 of tools.a.b cannot be written as JSON: no"},
		"BigInt option":        {code: "module.exports = () => tools.with({ retries: 1n }).a.b()", errName: "TypeError", message: "argument 1 of tools.with holds a BigInt"},
		"input is not JSON":    {code: "module.exports = (x) => x", input: `{"a":`, errCode: service.CodeInvalidInput, message: "not JSON"},
		"NUL in the input":     {code: "module.exports = (x) => x", input: "1\x00 2", errCode: service.CodeInvalidInput, message: "not JSON"},
		"recursion":            {code: "const f = () => f() + 1; module.exports = f", errName: "RangeError", errCode: service.CodeStackLimit, message: "Maximum call stack size exceeded"},
		"caught recursion":     {code: "const f = () => { try { f() } catch { f() } }; module.exports = f", errName: "RangeError", errCode: service.CodeStackLimit, message: "Maximum call stack size exceeded"},
		"deep parentheses":     {code: "module.exports = () => eval('('.repeat(1e5) + ')'.repeat(1e5))", errName: "RangeError", errCode: service.CodeStackLimit, message: "Maximum call stack size exceeded"},
		"deep JSON":            {code: "module.exports = () => JSON.parse('['.repeat(1e6))", errName: "RangeError", errCode: service.CodeStackLimit, message: "Maximum call stack size exceeded"},
		"many locals":          {code: "module.exports = () => { const f = new Function('n', 'let ' + Array.from({ length: 3000 }, (_, i) => 'v' + i).join() + '; return arguments.callee(n + 1)'); return f(0) }", errName: "RangeError", errCode: service.CodeStackLimit, message: "Maximum call stack size exceeded"},
		"timer throws":         {code: "module.exports = () => new Promise(() => queueMicrotask(() => { throw new Error('late') }))", message: "late"},
		"setTimeout of text":   {code: "module.exports = () => setTimeout('1', 5)", errName: "TypeError", message: "must be a function"},
		"tools is no function": {code: "module.exports = () => tools()", errName: "TypeError", message: "not a function"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := start(t, c.code, c.input)
			if !out.Ended || out.Err == nil || out.Snapshot != nil {
				t.Fatalf("ended %v, result %s, error %v", out.Ended, out.Result, out.Err)
			}
			e := *out.Err
			if !strings.Contains(e.Message, c.message) || e.Code != c.errCode || !strings.Contains(e.Stack, c.stack) || c.errName != "" && e.Name != c.errName {
				t.Errorf("got %+v", e)
			}
			if e.Stack != "" && !strings.HasPrefix(e.Stack, e.Name+": "+e.Message+"\n") || strings.Contains(e.Stack, "prelude") || strings.Contains(e.Stack, "native") {
				t.Errorf("stack %q", e.Stack)
			}
		})
	}
}

// TestExactValues: what goes in comes out, byte for byte.
func TestExactValues(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	for name, text := range map[string]string{
		"NUL and surrogates": `{"a":"x\u0000y","b":"\ud800","c":"\udc00x"}`,
		"key order":          `{"b":1,"a":2,"__proto__":{"x":1},"constructor":3,"toString":4}`,
		"characters":         `"é漢😀"`,
		"numbers":            `[0,1.5,1e+300,5e-324,123456789012345680000]`,
		"deep":               deep,
		"8 MB":               `"` + strings.Repeat("amber ", 8<<20/6-1) + `"`,
		"false":              `false`,
		"zero":               `0`,
		"empty":              `""`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantResult(t, start(t, `module.exports = (x) => x`, text), text)
			if len(text) > 1<<20 {
				return
			}
			out := start(t, `module.exports = async (x) => await tools.a.b(x)`, text)
			if got := string(out.Calls[0].Args()[0]); got != text {
				t.Errorf("argument %.200s", got)
			}
			wantResult(t, resume(t, out, value(1, text)), text)
		})
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ code, input, want string }{
		"minus zero":          {`module.exports = (x) => [Object.is(x.a, -0), 1 / x.a === -Infinity]`, `{"a":-0}`, `[true,true]`},
		"1e400":               {`module.exports = (x) => x.a === Infinity`, `{"a":1e400}`, `true`},
		"absent":              {`module.exports = (x) => x`, ``, `{}`},
		"null":                {`module.exports = (x) => x.y === undefined`, `null`, `true`},
		"prototype untouched": {`module.exports = (x) => [{}.x === undefined, Object.keys(x)]`, `{"__proto__":{"x":1}}`, `[true,["__proto__"]]`},
		"undefined":           {`module.exports = () => undefined`, ``, `null`},
		"a function":          {`module.exports = () => () => 1`, ``, `null`},
		"a symbol":            {`module.exports = () => Symbol('x')`, ``, `null`},
		"a date":              {`module.exports = () => new Date(0)`, ``, `"1970-01-01T00:00:00.000Z"`},
		"NaN":                 {`module.exports = () => [NaN, undefined]`, ``, `[null,null]`},
		"run ids":             {`module.exports = () => [__currentTaskRunId, __currentStackRunId]`, ``, `["run-1","stack-1"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantResult(t, start(t, c.code, c.input), c.want)
		})
	}
}
