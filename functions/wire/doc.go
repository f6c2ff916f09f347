// Package wire is what the edge functions have in common on HTTP: who calls
// ([Caller]), how a JSON body is read ([ReadObject]) and written ([JSON]), and
// how an error becomes a response ([Fail]). It is not a function itself and
// knows none.
//
//	func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
//		body, err := wire.ReadObject(r)
//		if err != nil {
//			wire.Fail(w, r, h.log, err)
//			return
//		}
//		...
//	}
package wire
