package host

import "net/http"

// What pages may send and read: the headers of supabase-js, those that the
// original's functions took, and Prefer.
const (
	allowedHeaders = "authorization, x-client-info, apikey, content-type, x-retry-count, traceparent, tracestate, baggage, " +
		"prefer, x-region, x-task-id, x-execution-id, x-request-id, content-encoding, if-none-match"
	allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	exposedHeaders = "Preference-Applied, ETag, Retry-After, sb-request-id, sb-error-code"
)

// allowOrigins lets every page read the answer. Keys travel in headers that a
// page must know, never in cookies. A function may set its own.
func allowOrigins(header http.Header) {
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Allow-Headers", allowedHeaders)
	header.Set("Access-Control-Allow-Methods", allowedMethods)
	header.Set("Access-Control-Expose-Headers", exposedHeaders)
}

// preflight answers OPTIONS in place of a function that does not.
type preflight struct {
	http.ResponseWriter
	replaced bool
}

func (p *preflight) WriteHeader(status int) {
	switch status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		p.replaced = true
		p.Header().Del("Content-Type")
		status = http.StatusNoContent
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *preflight) Write(body []byte) (int, error) {
	if p.replaced {
		return len(body), nil
	}
	return p.ResponseWriter.Write(body)
}

// Unwrap is for [http.ResponseController].
func (p *preflight) Unwrap() http.ResponseWriter { return p.ResponseWriter }
