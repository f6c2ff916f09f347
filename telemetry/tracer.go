package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/amberhost/amber/stack"
)

// Roots says from which runs rows came: see [stack.Store.Roots].
type Roots func(ctx context.Context, rows []uuid.UUID) (map[uuid.UUID]uuid.UUID, error)

// Tracer writes spans. It is safe for concurrent use; nil is one that writes none.
type Tracer struct {
	part     float64 // of traces that are kept
	most     int64
	pending  atomic.Int64
	dropped  atomic.Int64
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	exporter *counted

	roots      Roots
	unrelated  atomic.Int64
	lookups    chan stack.Event // of which the root has to be looked for
	closing    chan struct{}
	stopAsking context.CancelFunc
	work       sync.WaitGroup
}

// NewTracer returns a tracer that sends what t says, and that runs until Close; nil if t is off.
// host is what this host is called.
func NewTracer(ctx context.Context, t Traces, host string, roots Roots, log *slog.Logger) (*Tracer, error) {
	if !t.On() {
		return nil, nil
	}
	if err := t.Check(); err != nil {
		return nil, err
	}
	part, _ := t.ratio()
	queue, _ := t.queue()
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("open traces: %w", err)
	}
	from, err := t.resource(ctx, host)
	if err != nil {
		log.Warn("OTEL_RESOURCE_ATTRIBUTES", "err", err)
	}
	tr := &Tracer{part: part, most: int64(queue), roots: roots, lookups: make(chan stack.Event, lookupsAtOnce*4), closing: make(chan struct{})}
	tr.exporter = &counted{SpanExporter: exporter, pending: &tr.pending, log: log}
	tr.provider = sdk.NewTracerProvider(sdk.WithSampler(sdk.AlwaysSample()), sdk.WithIDGenerator(given{}), sdk.WithResource(from),
		sdk.WithBatcher(tr.exporter, sdk.WithMaxQueueSize(queue)))
	tr.tracer = tr.provider.Tracer("github.com/amberhost/amber")
	asking, stop := context.WithCancel(context.WithoutCancel(ctx))
	tr.stopAsking = stop
	tr.work.Go(func() { tr.lookUp(asking) })
	return tr, nil
}

// resource is what says from where spans are.
func (t Traces) resource(ctx context.Context, host string) (*resource.Resource, error) {
	service := t.Service
	if service == "" {
		service = "amber"
	}
	own := []attribute.KeyValue{attribute.String("service.instance.id", host), attribute.String("service.version", version())}
	if t.Service != "" {
		own = append(own, attribute.String("service.name", service))
	}
	return resource.New(ctx, resource.WithAttributes(attribute.String("service.name", service)), resource.WithTelemetrySDK(),
		resource.WithFromEnv(), resource.WithAttributes(own...))
}

// Close sends what is there and stops; what has not gone when ctx is done is lost.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	close(t.closing)
	stop := context.AfterFunc(ctx, t.stopAsking)
	t.work.Wait()
	stop()
	t.stopAsking()
	if t.provider.Shutdown(ctx) != nil { // then the exporter may still be at it
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_ = t.exporter.SpanExporter.Shutdown(gone)
	}
}

// counts is what became of spans.
func (t *Tracer) counts() map[string]int64 {
	return map[string]int64{"exported": t.exporter.exported.Load(), "failed": t.exporter.failed.Load(), "dropped": t.dropped.Load(), "unrelated": t.unrelated.Load()}
}

// Observe writes the spans of what has ended with an event.
func (t *Tracer) Observe(e stack.Event) {
	if t == nil {
		return
	}
	switch e.Kind {
	case stack.EventSuspended, stack.EventEnded, stack.EventTried:
	default:
		return
	}
	if e.Root != uuid.Nil {
		t.write(e)
		return
	}
	select {
	case t.lookups <- e:
	default:
		t.dropped.Add(1)
	}
}

// How many events' roots are looked for at once, and for how long.
const (
	lookupsAtOnce = 128
	lookupTime    = 2 * time.Second
)

// lookUp finds the roots of timers whose callers were not in memory, and of what was
// ended in place of whoever had it, apart from whoever did that.
func (t *Tracer) lookUp(ctx context.Context) {
	for {
		var first stack.Event
		select {
		case first = <-t.lookups:
		case <-t.closing:
			select {
			case first = <-t.lookups: // the last ones
			default:
				return
			}
		}
		events := append(make([]stack.Event, 0, lookupsAtOnce), first)
		for more := true; more && len(events) < lookupsAtOnce; {
			select {
			case e := <-t.lookups:
				events = append(events, e)
			default:
				more = false
			}
		}
		t.related(ctx, events)
	}
}

// related writes the spans of events whose roots can be found.
func (t *Tracer) related(ctx context.Context, events []stack.Event) {
	rows := make([]uuid.UUID, len(events))
	for i, e := range events {
		rows[i] = e.StackRun
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	roots, err := t.roots(ctx, rows)
	for _, e := range events {
		if e.Root = roots[e.StackRun]; err != nil || e.Root == uuid.Nil {
			t.unrelated.Add(1)
			continue
		}
		t.write(e)
	}
}
