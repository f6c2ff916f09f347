// Package wire is what the edge functions have in common on HTTP: who calls
// ([Caller]), how a JSON body is read ([ReadObject]) and written ([JSON],
// [Compact], [Tagged]), how an error becomes a response ([Fail]), how long a
// client wants to wait ([PreferredWait]), and how runs are started, found and
// waited for ([Runs]). It is not a function itself and knows none.
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
