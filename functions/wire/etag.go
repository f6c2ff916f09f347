package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// Tagged is [JSON] with status 200 for what clients poll. The answer has an
// ETag, and a client that has it already is told 304 and sent nothing.
//
// The tag is a digest of the answer and a weak one: compression on the way does
// not change it. A cache of the client's own may keep the answer and must ask
// each time; one that people share may not: it can be for its caller alone.
func Tagged(w http.ResponseWriter, r *http.Request, body any) {
	text, err := encode(body)
	if err != nil {
		send(w, http.StatusOK, nil, err)
		return
	}
	sum := sha256.Sum256(text)
	tag := `W/"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "private, no-cache")
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && known(r.Header, tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	send(w, http.StatusOK, indent(text), nil)
}

// known compares weakly, as RFC 9110, 13.1.2 says.
func known(header http.Header, tag string) bool {
	for _, line := range header.Values("If-None-Match") {
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}
