package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// counted is an exporter that counts, and says in the host's log, at most once a
// minute, that a collector takes nothing.
type counted struct {
	sdk.SpanExporter
	pending          *atomic.Int64 // spans that wait to be exported
	exported, failed atomic.Int64
	said             atomic.Int64 // when, in Unix seconds
	log              *slog.Logger
}

// ExportSpans implements [sdk.SpanExporter]. It has no error: there is nothing else to do about one.
func (c *counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	n := int64(len(spans))
	c.pending.Add(-n)
	if err := c.SpanExporter.ExportSpans(ctx, spans); err != nil {
		c.failed.Add(n)
		if now, then := time.Now().Unix(), c.said.Load(); now-then >= 60 && c.said.CompareAndSwap(then, now) {
			c.log.Warn("the collector does not take spans: they are lost", "spans", n, "err", err)
		}
		return nil
	}
	c.exported.Add(n)
	return nil
}
