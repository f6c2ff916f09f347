package host_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// fuzzed is a request as its bytes are made.
type fuzzed struct {
	method, target string
	headers        []string // "Name: value"
	body           string
	framing        string // "length", "chunked" or a header that lies
}

func (f fuzzed) bytes() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", f.method, f.target)
	for _, header := range f.headers {
		b.WriteString(header + "\r\n")
	}
	switch f.framing {
	case "chunked":
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if f.body != "" {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(f.body), f.body)
		}
		b.WriteString("0\r\n\r\n")
	case "length":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(f.body), f.body)
	default:
		b.WriteString(f.framing + "\r\n\r\n" + f.body)
	}
	return []byte(b.String())
}

// whole reports whether another request may follow on the connection.
func (f fuzzed) whole() bool { return f.framing == "chunked" || f.framing == "length" }

// generator makes requests near those that functions understand: the same from
// the same source. No task that it can start works for long.
type generator struct {
	*rand.Rand
	t         *testing.T
	functions []string // names that there are
	ids       []string // of runs and their calls, all ended
	keys      []string // headers with credentials
}

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

// often is true in so many of 100 cases.
func (g generator) often(percent int) bool { return g.IntN(100) < percent }

func (g generator) request() fuzzed {
	f := fuzzed{
		method:  g.one("GET", "GET", "GET", "POST", "POST", "POST", "POST", "POST", "POST", "PUT", "HEAD", "OPTIONS", g.one("PATCH", "DELETE", "TRACE", "CONNECT", "get", "BREW")),
		target:  g.target(),
		framing: "length",
	}
	named := "Host: localhost"
	if g.often(10) {
		named = g.one("Host: 127.0.0.1:54321", "Host: [::1]", "Host: evil.example", "Host: evil.example:1", "Host:", "Host: a.localhost")
	}
	f.headers = append(g.headers(), g.line(named))
	if looks := strings.Contains(f.target, "/tasks/") && !strings.Contains(f.target, "/execute"); looks && f.method == "POST" && g.often(80) {
		f.method = "GET"
	}
	if f.method != "GET" && f.method != "HEAD" || g.often(10) {
		f.body = g.body()
	}
	if g.often(20) {
		coding := g.one("gzip", "gzip", "gzip", "identity", "br", "gzip, gzip")
		f.headers = append(f.headers, "Content-Encoding: "+coding)
		if g.often(80) {
			f.body = gzipped(g.t, f.body)
		}
	}
	switch g.IntN(40) {
	case 0, 1, 2, 3:
		f.framing = "chunked"
	case 4:
		f.framing = g.one("Content-Length: 99999", "Content-Length: -1", "Content-Length: 99999999", "Content-Length: 2\r\nContent-Length: 3",
			"Transfer-Encoding: chunked", "Content-Length: 1\r\nTransfer-Encoding: chunked")
	}
	return f
}

// routes are what functions have below their names.
var routes = map[string][]string{
	"tasks":           {"execute", "execute", "execute", "list", "status", "result", "logs", "tree", "runs", "openapi", "api/proxy/tasks"},
	"quickjs":         {"resume"},
	"stack-processor": {"direct-process", "cleanup"},
}

func (g generator) target() string {
	name := g.one(g.functions...)
	parts := []string{"/functions/v1", name}
	route := ""
	switch below := routes[name]; {
	case g.often(10):
		route = g.one("..", "%2e%2e", "execute", "resume", g.junk())
	case len(below) > 0 && g.often(80):
		route = g.one(below...)
	}
	if route != "" || g.often(10) {
		parts = append(parts, route)
	}
	if g.often(30) || slices.Contains([]string{"status", "result", "logs", "tree"}, route) {
		parts = append(parts, g.id())
	}
	target := strings.Join(parts, "/")
	switch g.IntN(40) {
	case 0:
		target = g.one("/", "/health", "/ready", "//", "/functions/v1", "/functions/v1/", "/functions%2Fv1/tasks", "*", "http://localhost"+target, "/rest/v1/task_runs")
	case 1:
		target = g.mutated(target)
	}
	var query []string
	for range g.IntN(3) {
		query = append(query, g.one("id", "taskRunId", "task_run_id", "task", "status", "limit", "before", "after", "roots", "apikey")+"="+
			g.one(g.id(), g.id(), "1", "0", "-1", "99999999999999999999", "completed", "echo", "true", "%00", "%zz", g.junk()))
	}
	if len(query) > 0 {
		target += "?" + strings.Join(query, g.one("&", "&", "&", ";"))
	}
	return strings.Map(func(r rune) rune { // a target ends where a space is
		if r == ' ' || r == '\r' || r == '\n' {
			return '+'
		}
		return r
	}, target)
}

func (g generator) id() string {
	if g.often(70) {
		return g.one(g.ids...)
	}
	return g.one(unknownRun, "", "7", "%00", "null", strings.ToUpper(g.ids[0]), "{"+g.ids[0]+"}", strings.Repeat("a", 3000), g.junk())
}

func (g generator) headers() (lines []string) {
	if g.often(90) {
		lines = append(lines, g.one(g.keys...))
	}
	for range g.IntN(4) {
		lines = append(lines, g.one(
			"Prefer: wait=0", "Prefer: wait=1x", "Prefer: respond-async", "Prefer: wait=-1", "Prefer: "+g.junk(), "Prefer: return=minimal, wait=\"0\"",
			"Content-Type: application/json", "Content-Type: text/plain", "Content-Type: multipart/form-data; boundary=x", "Content-Type: "+g.junk(),
			"Accept-Encoding: gzip", "Accept-Encoding: zstd", "Accept-Encoding: br;q=1, *;q=0.1", "Accept: text/html",
			"Range: bytes=0-1", "If-None-Match: *", "If-None-Match: "+g.junk(), "If-Match: \"x\"", "If-Modified-Since: yesterday",
			"Origin: http://localhost:3000", "Origin: https://evil.example", "Origin: null",
			"Expect: 100-continue", "Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket", "TE: trailers",
			"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost", "x-region: eu", "traceparent: 00-"+g.junk(), "Cookie: a=b",
			"Access-Control-Request-Method: POST", "User-Agent: "+strings.Repeat(g.junk(), 20), "X-"+g.junk()+": y", "X-Odd: "+g.junk()))
	}
	if g.IntN(200) == 0 {
		lines = append(lines, slices.Repeat([]string{"X-Many: y"}, g.IntN(500))...)
	}
	for i, line := range lines {
		lines[i] = g.line(line)
	}
	return lines
}

// line makes one header of s, which net/http seldom refuses.
func (g generator) line(s string) string {
	seldom := g.often(3)
	name, _, _ := strings.Cut(s, ":")
	if strings.HasPrefix(name, "X-") && !seldom {
		s = strings.ReplaceAll(s, name, "X-Odd")
	}
	return strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || !seldom && r != '\t' && (r < ' ' || r == 0x7f) {
			return -1
		}
		return r
	}, s)
}

func (g generator) body() string {
	body := g.object()
	switch g.IntN(20) {
	case 0:
		body = ""
	case 1, 2:
		body = g.mutated(body)
	case 3:
		body = g.value(3)
	case 4:
		noise := make([]byte, g.IntN(300))
		for i := range noise {
			noise[i] = byte(g.Uint32())
		}
		body = string(noise)
	case 5:
		body = g.one("\ufeff", "\xff\xfe", " ", "[", "\x00", "taskName=echo&") + body
	}
	return body
}

// fields are what functions read, and values for which they do something. No
// code calls a task that a request may publish: it could come to call itself for ever.
var fields = map[string][]string{
	"taskName": {`"echo"`, `"fail"`, `"nest"`, `"gone"`}, "task": {`"echo"`}, "name": {`"echo"`, `"fuzz1"`, `"fuzz2"`, `"fuzz.3"`},
	"taskId": {`"echo"`}, "id": {`"nest"`}, "task_identifier": {`"echo"`},
	"input": {`1`, `{"a":[1]}`, `"text"`}, "taskInput": {`{}`},
	"code": {
		`"module.exports = (x) => x"`, `"module.exports = () => { throw new Error('no') }"`, `"export default 1"`, `"1 +"`,
		`"module.exports = async (x, {tools}) => await tools.tasks.execute('leaf', x)"`, `"module.exports = 7"`,
		`"module.exports = async (x, {tools}) => await tools.keystore.getKey('a', 'b')"`, `"await new Promise(() => {})"`,
	},
	"taskCode": {`"module.exports = () => ({a: [1]})"`}, "description": {`"d"`}, "directExecution": {`true`},
	"stackRunId": nil, "stack_run_id": nil, "stackRunIdToResume": nil, "taskRunId": nil, "resultToInject": {`1`},
	"trigger": {`"process-next"`, `"test-boot"`, `"quickjs"`, `"database_insert"`}, "action": {`"ping"`, `"process"`, `"check_notifications"`},
	"method": {`"triggerFIFO"`, `"echo"`}, "service": {`"tasks"`}, "type": {`"x"`}, "direct": {`true`},
	"modules": {`{}`}, "serviceProxies": {`[]`, `[{"name":"keystore"}]`}, "initialVmState": {`{}`}, "toolNames": {`["keystore"]`},
	"chain": {`[{"type":"call","property":"execute","args":["echo",1]}]`, `[{"type":"get","property":"tasks"},{"type":"call","property":"execute","args":["fail"]}]`},
	"args":  {`[]`}, "config": {`{}`}, "debug": {`true`}, "verbose": {`true`}, "include_logs": {`true`}, "__proto__": {`{}`},
}

var fieldNames = func() []string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()

func (g generator) object() string {
	var members []string
	if g.often(60) { // something that is understood, and more
		members = append(members, g.one(`"taskName":"echo","input":`+g.value(3), `"taskName":"nest","taskInput":`+g.value(3), `"taskName":"fail"`,
			`"name":"fuzz1","code":`+g.one(fields["code"]...), `"code":`+g.one(fields["code"]...), `"stackRunId":`+quote(g.id()),
			`"stackRunIdToResume":`+quote(g.id()), `"chain":`+g.one(fields["chain"]...)))
	}
	for range g.IntN(5) {
		name := g.one(fieldNames...)
		if g.often(30) {
			name = g.one("taskName", "code", "input", "stackRunId", "name")
		}
		value := g.value(3)
		switch good := fields[name]; {
		case strings.Contains(strings.ToLower(name), "runid") && g.often(80):
			value = quote(g.id())
		case len(good) > 0 && g.often(80):
			value = g.one(good...)
		}
		members = append(members, quote(name)+":"+value)
	}
	return "{" + strings.Join(members, ",") + "}"
}

// value is JSON, most of it odd.
func (g generator) value(depth int) string {
	switch n := g.IntN(10); {
	case n < 5 || depth == 0:
		return g.one("null", "true", "false", "0", "-0", "1", "1.50", "1e400", "-1e999999", "1e-400", "123456789012345678901234567890", "1E5",
			`""`, `"\u0000"`, `"\ud800"`, `"\udc00\ud800"`, `"\ud83d\ude00"`, `"é"`, `"<&>\u2028"`, `"../../etc"`, `"'; drop table task_runs; --"`, `"$1"`,
			"[]", "{}", "[[]]", `{"__proto__":null}`, `{"":1}`, `{"a":1,"a":2}`, `{"toJSON":1,"then":2}`)
	case n == 5 && g.often(5):
		return strings.Repeat("[", 200) + strings.Repeat("]", 200)
	case n == 5 && g.often(5):
		return strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000)
	case n == 5 && g.often(5):
		return `"` + strings.Repeat("long ", 20_000) + `"`
	case n < 7:
		return quote(g.junk())
	case n < 9:
		return "[" + g.value(depth-1) + "," + g.value(depth-1) + "]"
	}
	return "{" + quote(g.junk()) + ":" + g.value(depth-1) + `,"b":` + g.value(depth-1) + "}"
}

// junk is a short text of which no byte is certain.
func (g generator) junk() string {
	const letters = "abcZ019_-.:;,/%?#&=+*'\"\\<>{}[]()|~^$@! \t\x00\x1b\x7f\xff\xc3\u00e9\u202e\U0001f600"
	b := make([]byte, g.IntN(12))
	for i := range b {
		b[i] = letters[g.IntN(len(letters))]
	}
	return string(b)
}

// mutated changes a few bytes.
func (g generator) mutated(s string) string {
	b := []byte(s)
	for range 1 + g.IntN(4) {
		if len(b) == 0 {
			return string(b)
		}
		i := g.IntN(len(b))
		switch g.IntN(5) {
		case 0:
			b[i] ^= 1 << g.IntN(8)
		case 1:
			b = slices.Delete(b, i, i+1)
		case 2:
			b = slices.Insert(b, i, byte(g.Uint32()))
		case 3:
			b = b[:i]
		case 4:
			b = append(b, b[i:]...)
		}
	}
	return string(b)
}

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}
