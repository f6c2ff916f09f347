package vm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// captured is what user needs of the globals, which a task may replace after it.
const captured = `const P = Promise, line = console.log, timer = setTimeout, oldCall = __callHostTool__;`

// user is the body of a task that makes every kind of call, fails one, waits
// for a timer, logs and returns.
const user = `
	const first = await tools.shop.orders.get({ n: [1, 'é'] }, 'two');
	let why;
	try { await tools.mail.send(first.to) } catch (e) { why = [e.message, e.code, typeof e.stack] }
	const old = await oldCall('old', ['path'], [3]);
	await new P((done) => timer(done, 5));
	line('%s of %d', 'line', 1, first);
	return { first, why, old };`

// userResult is what it returns.
const userResult = `{"first":{"to":["a",{"b":null}]},"why":["no server","DOWN","string"],"old":"old reply"}`

// userCalls are its calls.
var userCalls = []string{
	`{"service":"shop","steps":[{"type":"get","property":"orders"},{"type":"call","property":"get","args":[{"n":[1,"é"]},"two"]}]}`,
	`{"service":"mail","steps":[{"type":"call","property":"send","args":[["a",{"b":null}]]}]}`,
	`{"service":"old","steps":[{"type":"call","property":"path","args":[3]}]}`,
	`{"service":"timer","steps":[{"type":"call","property":"","args":[5]}]}`,
}

// runUser runs a task in one engine to its end, in slices of one VM each.
func runUser(t *testing.T, e *vm.Engine, code, input string) (out *vm.Outcome, calls, logs []string) {
	t.Helper()
	out = startAs(t, e, code, input)
	for {
		var replies []vm.Reply
		for _, c := range out.Calls {
			text, err := json.Marshal(c.Call)
			if err != nil {
				t.Fatal(err)
			}
			calls = append(calls, string(text))
			replies = append(replies, map[string]vm.Reply{
				"shop": value(c.ID, `{"to":["a",{"b":null}]}`),
				"mail": failure(c.ID, &service.Error{Message: "no server", Code: "DOWN"}),
				"old":  value(c.ID, `"old reply"`)}[c.Service])
			replies[len(replies)-1].ID = c.ID
		}
		for _, l := range out.Logs {
			logs = append(logs, l.Message)
		}
		if out.Ended {
			return out, calls, logs
		}
		next, err := e.Resume(t.Context(), frame, out.Snapshot, replies)
		if err != nil {
			t.Fatal(err)
		}
		out = next
	}
}

// wantUntouched expects a task of user to have run as if nothing were replaced.
func wantUntouched(t *testing.T, what string, out *vm.Outcome, calls, logs []string) {
	t.Helper()
	if out.Err != nil || string(out.Result) != userResult || !slices.Equal(calls, userCalls) || len(logs) != 1 || logs[0] != `line of 1 { to: ["a", { b: null }] }` {
		t.Errorf("%s: result %s, error %+v, logs %q, calls\n%s", what, out.Result, out.Err, logs, strings.Join(calls, "\n"))
	}
}

// everyIntrinsic lists the own properties of all that a task can reach by name
// from the global object, as paths.
const everyIntrinsic = `module.exports = () => {
	const seen = new Set(), paths = [];
	const walk = (object, path) => {
		if (seen.has(object)) return;
		seen.add(object);
		for (const key of Reflect.ownKeys(object)) {
			const d = Reflect.getOwnPropertyDescriptor(object, key), name = typeof key === 'symbol' ? '@' + key.description.slice(7) : key;
			if (typeof d.value !== 'function' && typeof d.value !== 'object' && !d.get) continue;
			if (d.value !== null && (d.configurable || d.writable) && !/^(tools|console|globalThis|module|exports|require)$/.test(name)) paths.push([...path, name]);
			if (d.value && path.length < 3 && key !== 'tools') walk(d.value, [...path, name]);
		}
	};
	walk(globalThis, []);
	for (const [name, f] of [['AsyncFunction', async () => {}], ['Generator', function* () {}], ['AsyncGenerator', async function* () {}], ['ArrayIterator', [][Symbol.iterator]()], ['TypedArray', Reflect.getPrototypeOf(Uint8Array.prototype)]]) {
		walk(Reflect.getPrototypeOf(f), ['proto of ' + name]);
	}
	return paths;
}`

// replaceOne replaces the property that input names: by a function that throws,
// one that lies, or an accessor that throws.
const replaceOne = `
	const { path, how } = input, last = path.at(-1), key = last[0] === '@' ? Symbol[last.slice(1)] : last;
	let object = globalThis;
	for (const name of path.slice(0, -1)) object = name.startsWith('proto of ') ? Reflect.getPrototypeOf({ AsyncFunction: async () => {}, Generator: function* () {},
		AsyncGenerator: async function* () {}, ArrayIterator: [][Symbol.iterator](), TypedArray: Reflect.getPrototypeOf(Uint8Array.prototype) }[name.slice(9)]) : object[name];
	const d = Reflect.getOwnPropertyDescriptor(object, key), mine = () => { throw new Error('mine') };
	if (how === 'lie') Reflect.defineProperty(object, key, { ...(d.get ? { get: () => 7 } : { value: () => 'lie' }) });
	else if (how === 'throw') Reflect.defineProperty(object, key, d.get ? { get: mine } : { value: mine });
	else if (d.configurable) Reflect.defineProperty(object, key, { get: mine, set: mine, configurable: true });
`

// TestReplacedIntrinsics replaces every built-in function by itself. A task that
// does so still makes its calls in the right form, or fails with the error of
// its own function; a task in the same VM after it notices nothing.
func TestReplacedIntrinsics(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Concurrency = 1 })
	var paths [][]string
	if out := startAs(t, e, everyIntrinsic, ""); json.Unmarshal(out.Result, &paths) != nil || len(paths) < 500 {
		t.Fatalf("%d intrinsics, %.200s, %v", len(paths), out.Result, out.Err)
	}
	var effects []string
	for i, path := range paths {
		if raceDetector && i%8 != 0 {
			continue
		}
		hows := []string{"throw", "lie"}
		if last := path[len(path)-1]; last == "constructor" || last[0] == '@' { // looked up, and perhaps not called
			hows = append(hows, "accessor")
		}
		for _, how := range hows {
			input, err := json.Marshal(map[string]any{"path": path, "how": how})
			if err != nil {
				t.Fatal(err)
			}
			what := how + " " + strings.Join(path, ".")
			out, calls, logs := runUser(t, e, "module.exports = async (input, { tools }) => {"+captured+replaceOne+user+"}", string(input))
			if effect := felt(out, logs); effect != "" {
				effects = append(effects, what+": "+effect)
				continue
			}
			wantUntouched(t, what, out, calls, logs)
		}
		if i%20 == 0 {
			wantInnocent(t, e, strings.Join(path, "."))
		}
	}
	// What awaiting promises and naming classes looks up, by the language or by design.
	want := []string{
		"throw Object.prototype.constructor: named mine", "lie Object.prototype.constructor: named value",
		"accessor Promise.prototype.constructor: mine", "throw Promise.@species: mine",
		"lie Promise.@species: not a constructor", "accessor Promise.@species: mine",
	}
	if raceDetector { // too few were replaced
		return
	}
	slices.Sort(effects)
	slices.Sort(want)
	if !slices.Equal(effects, want) {
		t.Errorf("felt\n%s\nwant\n%s", strings.Join(effects, "\n"), strings.Join(want, "\n"))
	}
}

// felt says how a task felt what it had replaced, if only it did: by an error of
// its own function, or by the name of a class in its log.
func felt(out *vm.Outcome, logs []string) string {
	switch {
	case out.Err != nil && (out.Err.Message == "mine" || out.Err.Name == "TypeError"):
		return out.Err.Message
	case len(logs) == 1 && strings.Contains(logs[0], "mine {"):
		return "named mine"
	case len(logs) == 1 && strings.Contains(logs[0], "value {"):
		return "named value"
	}
	return ""
}

// wantInnocent runs a task that replaces nothing.
func wantInnocent(t *testing.T, e *vm.Engine, after string) {
	t.Helper()
	out, calls, logs := runUser(t, e, "module.exports = async (input, { tools }) => {"+captured+user+"}", "")
	wantUntouched(t, "a task after "+after, out, calls, logs)
}

// TestPoisonedWorld: what a task puts where nothing was, or in place of many
// things at once, harms its own run at most.
func TestPoisonedWorld(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Concurrency = 1 })
	const all = `const R = Reflect, list = [%s]; for (let i = 0; i < list.length; i++) for (let keys = R.ownKeys(list[i]), j = 0; j < keys.length; j++) { const d = R.getOwnPropertyDescriptor(list[i], keys[j]); if (typeof d.value === 'function' && d.writable) R.set(list[i], keys[j], () => { throw new Error('mine') }) }`
	for _, c := range []struct{ poison, err string }{
		{`Object.prototype.then = undefined; Object.prototype.toJSON = undefined`, ""},
		{`Object.prototype.then = function (ok, bad) { bad(new Error('mine')) }`, "mine"},
		{`Object.defineProperty(Object.prototype, 'then', { get() { throw new Error('mine') } })`, "mine"},
		{`Object.prototype.toJSON = () => { throw new Error('mine') }`, "cannot be written as JSON: mine"},
		{`Array.prototype.toJSON = () => { throw new Error('mine') }`, "cannot be written as JSON: mine"},
		{`String.prototype.toJSON = Number.prototype.toJSON = Boolean.prototype.toJSON = Function.prototype.toJSON = () => 'lie'`, ""},
		{`String.prototype.concat = () => '{"service":"timer","steps":[{"type":"call","property":"","args":["forged"]}]}'`, ""},
		{`Array.prototype[Symbol.iterator] = undefined; Array.prototype.values = undefined`, ""},
		{`Promise.prototype.then = Promise.prototype.catch = Promise.prototype.finally = () => { throw new Error('mine') }`, ""},
		{`RegExp.prototype.exec = () => ({ index: 0, length: 1, 0: 'lie' }); RegExp.prototype[Symbol.replace] = () => 'lie'`, ""},
		{`Reflect.apply = Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => { throw new Error('mine') }`, ""},
		{`Map.prototype.get = Map.prototype.set = Map.prototype.delete = WeakMap.prototype.get = WeakMap.prototype.set = () => { throw new Error('mine') }`, ""},
		{`JSON.stringify = () => '"lie"'; JSON.parse = () => 'lie'; globalThis.JSON = null`, ""},
		{`globalThis.Promise = globalThis.Error = globalThis.Proxy = globalThis.Map = globalThis.WeakMap = globalThis.Reflect = globalThis.Object = globalThis.Array = globalThis.String = null`, ""},
		{`class Lie extends Promise { then() { return 'lie' } } globalThis.Promise = Lie; globalThis.Error = class extends TypeError { get message() { return 'lie' } }`, ""},
		{`for (const key of ['service', 'steps', 'args', 'property', 'type', 'options', 'message', 'code', 'get', 'value', 'writable', 'run', 'resolve', 'reject']) Object.prototype[key] = 'lie'`, ""},
		{fmt.Sprintf(all, "String.prototype, Number.prototype, Boolean.prototype, Symbol.prototype, BigInt.prototype"), ""},
		{fmt.Sprintf(all, "Array, Array.prototype, Map.prototype, Set.prototype, WeakMap.prototype, RegExp.prototype, Date, Date.prototype"), ""},
		{fmt.Sprintf(all, "Math, JSON, Number, String, Function.prototype, Error, Error.prototype, Uint8Array.prototype, Reflect.getPrototypeOf(Uint8Array.prototype)"), ""},
	} {
		out, calls, logs := runUser(t, e, "module.exports = async (input, { tools }) => {"+captured+c.poison+";"+user+"}", "")
		if c.err == "" {
			wantUntouched(t, c.poison, out, calls, logs)
		} else if out.Err == nil || !strings.Contains(out.Err.Message, c.err) {
			t.Errorf("%s: result %s, error %+v", c.poison, out.Result, out.Err)
		}
		wantInnocent(t, e, c.poison)
	}
}

// TestPreludeWritesNoTemplates: the engine makes the text of a template literal
// with what String.prototype.concat is then, so a task would write the
// prelude's calls. Its rarely used lines are in no other test.
func TestPreludeWritesNoTemplates(t *testing.T) {
	t.Parallel()
	prelude, err := os.ReadFile("prelude.js")
	if err != nil {
		t.Fatal(err)
	}
	if at := strings.IndexByte(string(prelude), '`'); at >= 0 {
		t.Errorf("line %d of prelude.js has a template literal: join its parts with +", 1+strings.Count(string(prelude[:at]), "\n"))
	}
}
