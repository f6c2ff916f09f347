package telemetry

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// A trace has these spans:
//
//	run        of a run, from its start to its end
//	└─ call    of a service, a timer, or a nested task, which is all that ran for it
//	   └─ attempt   one try of it
//	└─ slice   what a task did from one await to the next: below its run or its call
//
// Messages of errors, arguments and replies are in none of them: they are the tasks'.

// span is what is written.
type span struct {
	root       uuid.UUID
	id, parent trace.SpanID // parent is zero for a run's
	name       string
	from, to   time.Time
	kind       trace.SpanKind
	attributes []attribute.KeyValue
	err        *service.Error
	link       string // a traceparent
}

// write writes the spans that an event ends.
func (t *Tracer) write(e stack.Event) {
	if !kept(e.Root, t.part) {
		return
	}
	if !e.Slice.Began.IsZero() {
		t.slice(e)
	}
	nested := e.Parent != uuid.Nil
	if e.Kind == stack.EventTried || e.Kind == stack.EventEnded && nested && !e.Began.IsZero() {
		t.attempt(e)
	}
	if e.Kind == stack.EventEnded {
		t.row(e)
	}
}

// row writes the span of a run, or of a call.
func (t *Tracer) row(e stack.Event) {
	s := span{root: e.Root, id: spanOf(e.StackRun), from: bornAt(e.StackRun, e.Began), to: e.At, err: e.Err, link: e.Trace,
		name: "run " + clip(e.Task), kind: trace.SpanKindInternal}
	s.attributes = append(describe(e), attribute.String("amber.status", e.Status), attribute.Int("amber.tries", e.Tries+1))
	if e.Parent != uuid.Nil {
		s.parent, s.name = spanOf(e.Parent), "call "+callName(e)
		if e.TaskRun == uuid.Nil {
			s.kind = trace.SpanKindClient
		}
	}
	t.add(s)
}

// attempt writes the span of a try. The first one of a task begins when it was called,
// whichever host that was; a later one that several hosts worked for, when the last of
// them went on with it.
func (t *Tracer) attempt(e stack.Event) {
	from := e.Began
	if e.TaskRun != uuid.Nil && e.Tries == 0 {
		from = bornAt(e.StackRun, from)
	}
	t.add(span{root: e.Root, id: freshSpan(), parent: spanOf(e.StackRun), name: "attempt " + callName(e), from: from, to: e.At, err: e.Err,
		kind: trace.SpanKindInternal, attributes: []attribute.KeyValue{attribute.Int("amber.attempt", e.Tries+1)}})
}

// slice writes the span of a slice.
func (t *Tracer) slice(e stack.Event) {
	from := [...]string{stack.FromCode: "code", stack.FromMemory: "memory", stack.FromTables: "tables"}[e.Slice.From]
	attributes := append(make([]attribute.KeyValue, 0, 3), attribute.String("amber.slice.from", from), attribute.Int64("amber.slice.waited_us", e.Slice.Waited.Microseconds()))
	if e.Snapshot > 0 {
		attributes = append(attributes, attribute.Int("amber.snapshot.bytes", e.Snapshot))
	}
	t.add(span{root: e.Root, id: freshSpan(), parent: spanOf(e.StackRun), name: "slice " + clip(e.Task), from: e.Slice.Began, to: e.Slice.Began.Add(e.Slice.Ran),
		kind: trace.SpanKindInternal, attributes: attributes})
}

// describe says which row it is; what is below it need not say that again.
func describe(e stack.Event) []attribute.KeyValue {
	all := append(make([]attribute.KeyValue, 0, 8), attribute.String("amber.stack_run", e.StackRun.String()))
	if e.TaskRun != uuid.Nil {
		all = append(all, attribute.String("amber.task_run", e.TaskRun.String()))
	}
	if e.Task != "" {
		all = append(all, attribute.String("amber.task", clip(e.Task)))
	}
	if e.Service != "" && e.TaskRun == uuid.Nil {
		all = append(all, attribute.String("amber.service", clip(e.Service)), attribute.String("amber.method", clip(e.Method)))
	}
	return all
}

// callName is a call as people read it.
func callName(e stack.Event) string {
	switch {
	case e.TaskRun != uuid.Nil:
		return clip(e.Task)
	case e.Method == "" || e.Method == e.Service:
		return clip(e.Service)
	}
	return clip(e.Service) + "." + clip(e.Method)
}

// add hands a span to those who send it, unless too many wait for that.
func (t *Tracer) add(s span) {
	if t.pending.Add(1) > t.most {
		t.pending.Add(-1)
		t.dropped.Add(1)
		return
	}
	if s.from.IsZero() || s.from.After(s.to) {
		s.from = s.to
	}
	ctx := context.WithValue(context.Background(), givenKey{}, &ids{trace: trace.TraceID(s.root), span: s.id})
	options := append(make([]trace.SpanStartOption, 0, 4), trace.WithTimestamp(s.from), trace.WithSpanKind(s.kind), trace.WithAttributes(s.attributes...))
	if s.parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID(s.root), SpanID: s.parent, TraceFlags: trace.FlagsSampled, Remote: true}))
	}
	if link := linkTo(s.link); link.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: link}))
	}
	_, written := t.tracer.Start(ctx, s.name, options...)
	if s.err != nil {
		written.SetStatus(codes.Error, s.err.Code)
		written.SetAttributes(attribute.String("error.type", s.err.Code))
	}
	written.End(trace.WithTimestamp(s.to))
}

// linkTo is where a traceparent leads.
func linkTo(traceparent string) trace.SpanContext {
	if traceparent == "" {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	return trace.SpanContextFromContext(ctx)
}
