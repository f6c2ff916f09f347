package host

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// compressed compresses the answers of a function with zstd or gzip where the
// client accepts it: those of 1 KB and more, unless they are compressed by
// nature or already. It says Vary, leaves alone HEAD and answers without a body,
// and flushes what a function flushes. Functions' ETags are weak and stay as they are.
//
// No random padding against BREACH: that attack needs a browser that adds a
// secret by itself, and amber's callers send keys in headers, never in cookies.
var compressed = func() func(http.Handler) http.HandlerFunc {
	wrap, err := gzhttp.NewWrapper()
	if err != nil {
		panic(err) // only options can be wrong, and there are none
	}
	return wrap
}()

// decode makes r's body what it was before the client compressed it with gzip.
// At most limit bytes come out, however few go in. It refuses other codings.
func decode(w http.ResponseWriter, r *http.Request, limit int64) *refusal {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ",")))
	switch coding {
	case "", "identity":
		r.Header.Del("Content-Encoding")
		return nil
	case "gzip", "x-gzip":
	default:
		w.Header().Set("Accept-Encoding", "gzip") // RFC 9110, 12.5.3
		return &refusal{Status: http.StatusUnsupportedMediaType, Code: "UNSUPPORTED_ENCODING",
			Message: "A request body may be compressed with gzip, or not at all: send no other Content-Encoding"}
	}
	r.Header.Del("Content-Encoding")
	r.Header.Del("Content-Length")
	r.ContentLength = -1
	r.Body = http.MaxBytesReader(w, &gunzipped{compressed: r.Body}, limit)
	return nil
}

// gunzipped decompresses; it reads nothing before it is read, for a client may
// wait to be told to send.
type gunzipped struct {
	compressed io.ReadCloser
	plain      *gzip.Reader
	err        error
}

func (b *gunzipped) Read(p []byte) (int, error) {
	if b.plain == nil && b.err == nil {
		b.plain, b.err = gzip.NewReader(b.compressed)
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.plain.Read(p)
	b.err = err
	return n, err
}

func (b *gunzipped) Close() error { return b.compressed.Close() }
