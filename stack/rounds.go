package stack

import (
	"sync"

	"github.com/google/uuid"
)

// rounds are how far those searches have come that go over rows which others may
// hold up for long: each looks at so many of them at a time, and begins anew when
// it has seen all.
type rounds struct {
	adopt struct {
		sync.Mutex
		unbegun
	}
	late struct {
		sync.Mutex
		body uuid.UUID // that the search for bodies without a wake has come to
	}
}
