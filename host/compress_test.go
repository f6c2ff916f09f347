package host_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

// gate serves functions of a test's own behind the gateway and returns the address.
func gate(t *testing.T, c host.Config, table ...functions.Function) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Open, c.Keys = true, keys.Local()
	server := host.ServeGateway(c, table, listener)
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// function answers with f.
func function(name string, f http.HandlerFunc) functions.Function {
	return functions.Function{Name: name, Handler: f}
}

// call sends a request and decodes nothing; headers are "Name: value".
func call(t *testing.T, address, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	a, err := fetch(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// fetch sends a request on a connection of its own and decodes nothing.
func fetch(request *http.Request) (a answer, err error) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text)}, err
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// decoded undoes an answer's Content-Encoding.
func (a answer) decoded() (string, error) {
	switch coding := a.header.Get("Content-Encoding"); {
	case coding == "" || a.body == "":
		return a.body, nil
	case coding == "gzip":
		r, err := gzip.NewReader(strings.NewReader(a.body))
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(r)
		return string(text), err
	case coding == "zstd":
		r, err := zstd.NewReader(strings.NewReader(a.body))
		if err != nil {
			return "", err
		}
		defer r.Close() // it has goroutines
		text, err := io.ReadAll(r)
		return string(text), err
	}
	return "", fmt.Errorf("unknown Content-Encoding in %v", a.header)
}

func (a answer) plain(t *testing.T) string {
	t.Helper()
	text, err := a.decoded()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCompressedAnswers(t *testing.T) {
	t.Parallel()
	long := `{"text":"` + strings.Repeat("amber ", 1000) + `"}`
	address := gate(t, host.Config{},
		function("long", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, long)
		}),
		function("short", func(w http.ResponseWriter, _ *http.Request) { wire.JSON(w, 200, []int{1}) }),
		function("failed", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(418)
			fmt.Fprint(w, long)
		}),
		function("picture", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/jpeg")
			fmt.Fprint(w, long)
		}),
		function("done", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, gzipped(t, long))
		}),
		function("tagged", func(w http.ResponseWriter, r *http.Request) { wire.Tagged(w, r, []string{long}) }),
		function("nothing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	for _, test := range []struct {
		name, method, path, accept string
		status                     int
		coding, body               string
	}{
		{"gzip", "GET", "/long", "gzip", 200, "gzip", long},
		{"zstd", "GET", "/long", "zstd", 200, "zstd", long},
		{"both", "GET", "/long", "gzip, deflate, br, zstd", 200, "zstd", long},
		{"preferred", "GET", "/long", "gzip, zstd;q=0.5", 200, "gzip", long},
		{"POST", "POST", "/long", "gzip", 200, "gzip", long},
		{"an error", "POST", "/failed", "gzip", 418, "gzip", long},
		{"refused", "GET", "/long", "gzip;q=0, zstd;q=0", 200, "", long},
		{"not asked", "GET", "/long", "", 200, "", long},
		{"what amber has not", "GET", "/long", "br, deflate", 200, "", long},
		{"rubbish", "GET", "/long", ";;;q=x,,,", 200, "", long},
		{"short", "GET", "/short", "gzip", 200, "", "[\n  1\n]\n"},
		{"compressed by nature", "GET", "/picture", "gzip", 200, "", long},
		{"compressed already", "GET", "/done", "gzip", 200, "gzip", long},
		{"tagged", "GET", "/tagged", "gzip", 200, "gzip", "[\n  " + strconv.Quote(long) + "\n]\n"},
		{"tagged, plain", "GET", "/tagged", "", 200, "", "[\n  " + strconv.Quote(long) + "\n]\n"},
		{"HEAD", "HEAD", "/long", "gzip", 200, "", ""},
		{"no body", "GET", "/nothing", "gzip", 204, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := call(t, address, test.method, "/functions/v1"+test.path, nil, "Accept-Encoding: "+test.accept)
			if a.status != test.status || a.header.Get("Content-Encoding") != test.coding || a.plain(t) != test.body {
				t.Errorf("%d %v %.100q", a.status, a.header, a.body)
			}
			if a.header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("Vary: %q", a.header["Vary"])
			}
			if length := a.header.Get("Content-Length"); test.method == "GET" && length != "" && length != strconv.Itoa(len(a.body)) {
				t.Errorf("Content-Length %s of %d", length, len(a.body))
			}
			if known := a.header.Get("ETag"); test.path == "/tagged" && a.status == 200 {
				again := call(t, address, "GET", "/functions/v1/tagged", nil, "Accept-Encoding: "+test.accept, "If-None-Match: "+known)
				if again.status != 304 || again.body != "" || again.header.Get("ETag") != known || again.header.Get("Content-Encoding") != "" {
					t.Errorf("known: %d %v %q", again.status, again.header, again.body)
				}
			}
			if len(a.body) > 1000 && test.coding != "" && len(a.body) > len(long)/4 {
				t.Errorf("%d of %d bytes", len(a.body), len(long))
			}
		})
	}
}

// TestCompressedStream: what a function flushes arrives, compressed or not.
func TestCompressedStream(t *testing.T) {
	t.Parallel()
	address := gate(t, host.Config{}, function("streams", func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			t.Errorf("the connection is out of reach: %v", err)
		}
		fmt.Fprintln(w, "first")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("flush: %v", err)
		}
		<-r.Context().Done() // nothing more until the client has read this and left
	}))
	for _, method := range []string{"GET", "POST"} {
		for _, accept := range []string{"gzip", "identity"} {
			request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+"/functions/v1/streams", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept-Encoding", accept)
			response, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			var body io.Reader = response.Body
			if response.Header.Get("Content-Encoding") == "gzip" {
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			first := make([]byte, len("first"))
			if _, err := io.ReadFull(body, first); err != nil || string(first) != "first" {
				t.Errorf("%s %s: %q, %v", method, accept, first, err)
			}
			response.Body.Close()
		}
	}
}

func TestCompressedBodies(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	address := gate(t, host.Config{BodyLimit: limit}, function("reads", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Encoding") != "" && r.ContentLength != 0 || r.ContentLength > limit {
			t.Errorf("the function sees %v, length %d", r.Header, r.ContentLength)
		}
		text, err := wire.ReadBody(r)
		if err != nil {
			wire.Fail(w, r, nil, err)
			return
		}
		if r.ContentLength >= 0 && r.ContentLength != int64(len(text)) {
			t.Errorf("length %d of %d bytes", r.ContentLength, len(text))
		}
		object, err := wire.ParseObject(r, text)
		if err != nil {
			wire.Fail(w, r, nil, err)
			return
		}
		wire.JSON(w, 200, len(object["v"]))
	}))
	object := func(n int) string { return `{"v":"` + strings.Repeat("x", n-2) + `"}` }
	random := make([]byte, 1000)
	for _, test := range []struct {
		name, coding, body string
		status             int
		want               string // part of the answer
	}{
		{"plain", "", object(1000), 200, "1000"},
		{"identity", "identity", object(1000), 200, "1000"},
		{"gzip", "gzip", gzipped(t, object(90_000)), 200, "90000"},
		{"by its old name", "X-GZIP", gzipped(t, object(1000)), 200, "1000"},
		{"in two parts", "gzip", gzipped(t, `{"v":`) + gzipped(t, `12}`), 200, "2"},
		{"more than the limit when decompressed", "gzip", gzipped(t, object(limit+1)), 413, "PAYLOAD_TOO_LARGE"},
		{"a bomb", "gzip", gzipped(t, object(20_000_000)), 413, "PAYLOAD_TOO_LARGE"},
		{"not gzip", "gzip", object(1000), 400, "could not be read"},
		{"cut off", "gzip", gzipped(t, object(1000))[:30], 400, "could not be read"},
		{"rubbish", "gzip", "\x1f\x8b\x08" + string(random), 400, "INVALID_REQUEST"},
		{"nothing", "gzip", "", 400, "INVALID_JSON"},
		{"br", "br", "x", 415, "UNSUPPORTED_ENCODING"},
		{"twice", "gzip, gzip", gzipped(t, gzipped(t, object(10))), 415, "send no other Content-Encoding"},
	} {
		for _, length := range []string{"known", "chunked"} {
			t.Run(test.name+" "+length, func(t *testing.T) {
				t.Parallel()
				var body io.Reader = strings.NewReader(test.body)
				if length == "chunked" {
					body = io.MultiReader(body)
				}
				a := call(t, address, "POST", "/functions/v1/reads", body, "Content-Encoding: "+test.coding)
				if a.status != test.status || !strings.Contains(a.body, test.want) {
					t.Errorf("%d %s, want %d %s", a.status, a.body, test.status, test.want)
				}
				if a.status == 415 && a.header.Get("Accept-Encoding") != "gzip" {
					t.Errorf("Accept-Encoding %q", a.header.Get("Accept-Encoding"))
				}
			})
		}
	}
}
