package telemetry_test

import (
	"strings"
	"testing"

	"github.com/amberhost/amber/telemetry"
)

// TestTracesOf is the table of what OpenTelemetry's variables mean.
func TestTracesOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, env string
		endpoint  string // "" is off
		wrong     string // part of the error
	}{
		{"nothing", "", "", ""},
		{"all signals", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "http://c:4318/v1/traces", ""},
		{"all signals, below a path", "OTEL_EXPORTER_OTLP_ENDPOINT=https://c/otlp/", "https://c/otlp/v1/traces", ""},
		{"traces come first", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318 OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://d/x", "http://d/x", ""},
		{"disabled", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318 OTEL_SDK_DISABLED=true", "", ""},
		{"none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318 OTEL_TRACES_EXPORTER=none OTEL_TRACES_SAMPLER=x", "", ""},
		{"off, whatever else is said", "OTEL_TRACES_SAMPLER=x OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "", ""},
		{"protocol", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317 OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "http://c:4317/v1/traces", `"grpc": amber speaks http/protobuf alone`},
		{"protocol of traces", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf", "http://c/v1/traces", ""},
		{"no URL", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318", "collector:4318/v1/traces", "OTEL_EXPORTER_OTLP_ENDPOINT is not the URL of a collector"},
		{"exporter", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_TRACES_EXPORTER=zipkin", "http://c/v1/traces", `"zipkin": want otlp, or none`},
		{"sampler", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_TRACES_SAMPLER=sometimes", "http://c/v1/traces", `OTEL_TRACES_SAMPLER: "sometimes": want always_on`},
		{"part", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.25", "http://c/v1/traces", ""},
		{"no part", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=25", "http://c/v1/traces", `"25": want the part of runs that are traced`},
		{"not a number", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=NaN", "http://c/v1/traces", `"NaN": want the part`},
		{"queue", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_BSP_MAX_QUEUE_SIZE=0", "http://c/v1/traces", "want a number of spans from 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{}
			for _, pair := range strings.Fields(c.env) {
				name, text, _ := strings.Cut(pair, "=")
				env[name] = text
			}
			traces := telemetry.TracesOf(func(name string) string { return env[name] })
			if traces.On() != (c.endpoint != "") || traces.On() && traces.Endpoint != c.endpoint {
				t.Errorf("on: %v, %q, want %q", traces.On(), traces.Endpoint, c.endpoint)
			}
			err := traces.Check()
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("%v, want %q", err, c.wrong)
			}
		})
	}
}
