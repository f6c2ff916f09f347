package host_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/host"
)

// exchange sends bytes as they are and reads every answer until the server
// closes the connection or has nothing more to say to a client that sends no more.
func exchange(t *testing.T, address, sent string) []answer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(conn, sent) // a server may refuse before it has read all
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	var answers []answer
	method, _, _ := strings.Cut(sent, " ")
	for in := bufio.NewReader(conn); ; {
		response, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return answers
		}
		body, _ := io.ReadAll(response.Body) // a server that refuses to read on may reset the connection
		answers = append(answers, answer{response.StatusCode, response.Header, string(body)})
	}
}

// sees answers with what a function sees of a request.
func sees(w http.ResponseWriter, r *http.Request) {
	body, err := wire.ReadBody(r)
	if err != nil {
		wire.Fail(w, r, slog.New(slog.DiscardHandler), err)
		return
	}
	wire.JSON(w, 200, map[string]string{"saw": r.Method + " " + r.URL.Path + "?" + r.URL.RawQuery + " " + string(body)})
}

// TestRawRequests is the table of requests that no well-behaved client sends:
// bytes in, status out.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	address := gate(t, host.Config{BodyLimit: 1000}, function("see", sees), functions.Function{
		Name: "secret", Access: functions.Service, Handler: http.HandlerFunc(sees)})
	const h = " HTTP/1.1\r\nHost: localhost\r\n"
	get := func(target string, headers ...string) string {
		return "GET " + target + h + strings.Join(append(headers, "\r\n"), "\r\n")
	}
	post := func(headers, body string) string { return "POST /functions/v1/see" + h + headers + "\r\n\r\n" + body }
	const close = "Connection: close"
	for _, test := range []struct {
		name, sent string
		status     string // of each answer
		want       string // part of the first one's body: a code, or what the function saw
	}{
		// The path is what it says: no segment of it is taken for another.
		{"plain", get("/functions/v1/see/a?b"), "200", "GET /see/a?b"},
		{"escaped", get("/functions/v1/see/%61%2F%C3%A9%00?%00"), "200", "GET /see/a/é\x00?%00"},
		{"escaped name", get("/functions/v1/s%65e"), "200", "GET /see?"},
		{"escaped slash after the name", get("/functions/v1/see%2Fx"), "200", "GET /see/x"},
		{"escaped slash in the prefix", get("/functions%2Fv1/see"), "404", "NOT_FOUND"},
		{"escaped letter in the prefix", get("/function%73/v1/see"), "404", "NOT_FOUND"},
		{"dots before", get("/x/../functions/v1/see"), "404", "NOT_FOUND"},
		{"dots for a name", get("/functions/v1/../see"), "404", "NOT_FOUND"},
		{"escaped dots for a name", get("/functions/v1/%2e%2e/see"), "404", "NOT_FOUND"},
		{"dots after", get("/functions/v1/see/../secret"), "200", "GET /see/../secret?"},
		{"escaped dots after", get("/functions/v1/see/%2e%2e%2fsecret"), "200", "GET /see/../secret?"},
		{"two slashes first", get("//functions/v1/see"), "404", "NOT_FOUND"},
		{"two slashes before the name", get("/functions/v1//see"), "404", "NOT_FOUND"},
		{"two slashes after", get("/functions/v1/see//x"), "200", "GET /see//x?"},
		{"other case", get("/functions/v1/See"), "404", "NOT_FOUND"},
		{"NUL in the name", get("/functions/v1/see%00"), "404", "NOT_FOUND"},
		{"backslash", get(`/functions/v1\see`), "404", "NOT_FOUND"},
		{"bad escape", get("/functions/v1/see%zz"), "400", "400 Bad Request"},
		{"NUL itself", get("/functions/v1/see\x00"), "400", "400 Bad Request"},
		{"bytes that are no UTF-8", get("/functions/v1/see/\xff"), "200", "GET /see/\ufffd?"},
		{"semicolon in the query", get("/functions/v1/see?a;b=c"), "200", "GET /see?a;b=c"},
		{"16 KB", get("/functions/v1/see?" + strings.Repeat("x", 16<<10)), "414", "URI_TOO_LONG"},
		{"16 KB of nothing", get("/" + strings.Repeat("/", 16<<10)), "414", "URI_TOO_LONG"},
		{"empty target", get(""), "400", "400 Bad Request"},
		{"no path", get("functions/v1/see"), "400", "400 Bad Request"},
		{"absolute form", get("http://localhost/functions/v1/see/a"), "200", "GET /see/a?"},
		{"absolute form, another host", get("http://evil.example/functions/v1/see"), "403", "FOREIGN_ORIGIN"},
		{"forwarded headers change nothing", get("/functions/v1/see", "X-Forwarded-Host: evil.example", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https"), "200", "GET /see?"},
		{"nor do they help", "GET /functions/v1/secret HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n", "403", "FOREIGN_ORIGIN"},

		// Methods.
		{"TRACE", "TRACE /functions/v1/see" + h + "\r\n", "405", "METHOD_NOT_ALLOWED"},
		{"CONNECT", "CONNECT localhost:80" + h + "\r\n", "405", "METHOD_NOT_ALLOWED"},
		{"a method of nobody's", "BREW /functions/v1/see" + h + "\r\n", "405", "METHOD_NOT_ALLOWED"},
		{"in small letters", "get /functions/v1/see" + h + "\r\n", "405", "METHOD_NOT_ALLOWED"},
		{"no method", " /functions/v1/see" + h + "\r\n", "400", "400 Bad Request"},
		{"POST to the index", "POST /" + h + "Content-Length: 0\r\n\r\n", "405", "METHOD_NOT_ALLOWED"},
		{"DELETE of health", "DELETE /health" + h + "\r\n", "405", "METHOD_NOT_ALLOWED"},
		{"HEAD of nothing", "HEAD /nothing" + h + "\r\n", "404", ""},
		{"OPTIONS *", "OPTIONS *" + h + "\r\n", "200", ""},
		{"preflight of nothing", "OPTIONS /nothing" + h + "\r\n", "204", ""},
		{"preflight of a page", "OPTIONS /" + h + "\r\n", "204", ""},
		{"HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "405", "METHOD_NOT_ALLOWED"},
		{"offering HTTP/2", get("/functions/v1/see", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), "200", "GET /see?"},

		// Versions and headers.
		{"HTTP/1.0", "GET /functions/v1/see HTTP/1.0\r\n\r\n", "200", "GET /see?"},
		{"HTTP/1.0 keeps alive", strings.Repeat("GET /functions/v1/see HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 2), "200 200", "GET /see?"},
		{"HTTP/0.9", "GET /functions/v1/see\r\n\r\n", "400", "400 Bad Request"},
		{"HTTP/3.0", "GET / HTTP/3.0\r\n\r\n", "505", "505 HTTP Version"},
		{"no host", "GET /functions/v1/see HTTP/1.1\r\n\r\n", "400", "400 Bad Request"},
		{"two hosts", get("/functions/v1/see", "Host: evil.example"), "400", "400 Bad Request"},
		{"a host that is none", "GET /functions/v1/see HTTP/1.1\r\nHost: a b\r\n\r\n", "400", "400 Bad Request"},
		{"header without a colon", get("/functions/v1/see", "rubbish"), "400", "400 Bad Request"},
		{"header with a space before its colon", get("/functions/v1/see", "a : b"), "400", "400 Bad Request"},
		{"folded header", get("/functions/v1/see", "A: b", " c"), "200", "GET /see?"},
		{"header with NUL", get("/functions/v1/see", "A: b\x00c"), "400", "400 Bad Request"},
		{"header with bytes that are no UTF-8", get("/functions/v1/see", "A: \xff\xfe"), "200", "GET /see?"},
		{"257 headers", get("/functions/v1/see", strings.Split(strings.Repeat("A: b,", 256)+"A: b", ",")...), "431", "TOO_MANY_HEADERS"},
		{"70 KB of headers", get("/functions/v1/see", "A: "+strings.Repeat("b", 70<<10)), "431", "431 Request Header Fields Too Large"},

		// Bodies: one length, and one way to say it.
		{"a body", post("Content-Length: 2", "ab"), "200", "POST /see? ab"},
		{"asked first", post("Expect: 100-continue\r\nContent-Length: 2", "ab"), "100 200", ""},
		{"asked first, too large", post("Expect: 100-continue\r\nContent-Length: 1001", ""), "413", "PAYLOAD_TOO_LARGE"},
		{"another expectation", post("Expect: miracles\r\nContent-Length: 2", "ab"), "417", ""},
		{"too large", post("Content-Length: 1001", strings.Repeat("x", 1001)), "413", "PAYLOAD_TOO_LARGE"},
		{"cut off", post("Content-Length: 3", "ab"), "400", "unexpected EOF"},
		{"length twice, the same", post("Content-Length: 2\r\nContent-Length: 2", "ab"), "200", "POST /see? ab"},
		{"length twice, two lengths", post("Content-Length: 2\r\nContent-Length: 3", "abc"), "400", "400 Bad Request"},
		{"a list of lengths", post("Content-Length: 2, 2", "ab"), "400", "400 Bad Request"},
		{"negative length", post("Content-Length: -1", ""), "400", "400 Bad Request"},
		{"length with a sign", post("Content-Length: +2", "ab"), "400", "400 Bad Request"},
		{"length beyond numbers", post("Content-Length: 99999999999999999999", ""), "400", "400 Bad Request"},
		{"length that is none", post("Content-Length: 0x2", "ab"), "400", "400 Bad Request"},
		{"chunked", post("Transfer-Encoding: chunked", "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"), "200", "POST /see? ab"},
		{"chunked with a trailer", post("Transfer-Encoding: chunked\r\nTrailer: X", "1\r\na\r\n0\r\nX: y\r\n\r\n"), "200", "POST /see? a"},
		{"chunked with a trailer that makes lengths", post("Transfer-Encoding: chunked\r\nTrailer: Content-Length", "1\r\na\r\n0\r\n\r\n"), "400", "400 Bad Request"},
		{"chunked with an extension", post("Transfer-Encoding: chunked", "1;a=b\r\na\r\n0\r\n\r\n"), "200", "POST /see? a"},
		{"chunked and too large", post("Transfer-Encoding: chunked", "3e9\r\n"+strings.Repeat("x", 1001)+"\r\n0\r\n\r\n"), "413", "larger than 1000 bytes"},
		{"chunked, cut off", post("Transfer-Encoding: chunked", "5\r\nab"), "400", "unexpected EOF"},
		{"a chunk of a wrong size", post("Transfer-Encoding: chunked", "1\r\nab\r\n0\r\n\r\n"), "400", "malformed"},
		{"a chunk of no size", post("Transfer-Encoding: chunked", "x\r\n"), "400", "invalid byte"},
		{"a chunk of a huge size", post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"), "400", "too large"},
		{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "501", "Unsupported transfer encoding"},
		{"chunked, then something", post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), "501", "Unsupported transfer encoding"},
		{"gzip as a transfer", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), "501", "Unsupported transfer encoding"},
		{"xchunked", post("Transfer-Encoding: xchunked", "0\r\n\r\n"), "501", "Unsupported transfer encoding"},
		{"chunked in HTTP/1.0", "POST /functions/v1/see HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200", "POST /see? "},
		// Of both, chunked counts (RFC 9112, 6.1), and net/http drops the length
		// before anybody else sees it. Proxies that count bytes are the fault.
		{"chunked and a length", post("Content-Length: 4\r\nTransfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n"), "200", "POST /see? a"},
		{"a length and chunked", post("Transfer-Encoding: chunked\r\nContent-Length: 99", "1\r\na\r\n0\r\n\r\n"), "200", "POST /see? a"},
		{"GET with a body", "GET /functions/v1/see" + h + "Content-Length: 2\r\n\r\nab" + get("/functions/v1/see/2"), "200 200", "GET /see? ab"},
		{"body that nobody reads", "POST /nothing" + h + "Content-Length: 2\r\n\r\nab" + get("/functions/v1/see"), "404 200", "NOT_FOUND"},

		// Connections.
		{"pipelined", get("/functions/v1/see/1") + get("/functions/v1/see/2") + get("/functions/v1/see/3", close), "200 200 200", "GET /see/1?"},
		{"nothing after close", get("/functions/v1/see/1", close) + get("/functions/v1/see/2"), "200", "GET /see/1?"},
		{"empty lines first", "\r\n\r\n" + get("/functions/v1/see"), "400", "400 Bad Request"},
		{"bare LF", "GET /functions/v1/see HTTP/1.1\nHost: localhost\n\n", "200", "GET /see?"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400", ""},
		{"rubbish", strings.Repeat("\x00\xff", 500) + "\r\n\r\n", "400", ""},
		{"nothing", "", "", ""},
		{"half a header", "GET / HTTP/1.1\r\nHo", "400", "400 Bad Request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			answers := exchange(t, address, test.sent)
			var statuses []string
			for _, a := range answers {
				statuses = append(statuses, fmt.Sprint(a.status))
			}
			if got := strings.Join(statuses, " "); got != test.status {
				t.Fatalf("%s, want %s: %+v", got, test.status, answers)
			}
			for i, a := range answers {
				if i == 0 && !strings.Contains(unquoted(a.body), test.want) {
					t.Errorf("%d %s, want %q", a.status, a.body, test.want)
				}
				wellFormed(t, a)
			}
		})
	}
}

// unquoted returns what the function saw, and other bodies as they are.
func unquoted(body string) string {
	var seen struct{ Saw string }
	if json.Unmarshal([]byte(body), &seen) == nil && seen.Saw != "" {
		return seen.Saw
	}
	return body
}

// wellFormed checks what is true of every answer: what says that it is JSON is,
// and what amber itself refuses is, with its code in the header; only what
// net/http refuses, before there is a request, is text.
func wellFormed(t *testing.T, a answer) {
	t.Helper()
	if a.header.Get("sb-request-id") == "" { // net/http
		return
	}
	isJSON := strings.HasPrefix(a.header.Get("Content-Type"), "application/json")
	if a.body != "" && isJSON && !json.Valid([]byte(a.body)) {
		t.Errorf("not JSON: %q", a.body)
	}
	if a.status >= 400 && !isJSON {
		t.Errorf("%d %v %q", a.status, a.header, a.body)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Served-By": "amber", "Access-Control-Allow-Origin": "*"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
