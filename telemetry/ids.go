package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// spanOf is the id of a row's span: the part of its id that is random, the second half
// of a UUIDv7.
func spanOf(row uuid.UUID) (id trace.SpanID) {
	copy(id[:], row[8:])
	return id
}

// freshSpan is the id of a span that no other refers to.
func freshSpan() (id trace.SpanID) {
	binary.NativeEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// bornAt is when a row was made, which a UUIDv7 says; otherwise if the id is another's.
func bornAt(row uuid.UUID, otherwise time.Time) time.Time {
	if row.Version() != 7 {
		return otherwise
	}
	seconds, nanoseconds := row.Time().UnixTime()
	return time.Unix(seconds, nanoseconds)
}

// kept reports whether a trace is among the part of all that is kept: the same on each
// host. It reads what of a UUID is random; the sampler of OpenTelemetry's library takes
// its variant for random too, and would keep all traces or none.
func kept(root uuid.UUID, part float64) bool {
	const bits = 62
	random := binary.BigEndian.Uint64(root[8:]) & (1<<bits - 1)
	return float64(random) < part*(1<<bits)
}

// given is the generator of ids: each span is given its own.
type given struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

type givenKey struct{}

// NewIDs is of [go.opentelemetry.io/otel/sdk/trace.IDGenerator].
func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	g, _ := ctx.Value(givenKey{}).(*ids)
	return g.trace, g.span
}

// NewSpanID is of [go.opentelemetry.io/otel/sdk/trace.IDGenerator].
func (given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	g, _ := ctx.Value(givenKey{}).(*ids)
	return g.span
}
