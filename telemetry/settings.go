package telemetry

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Traces is where spans go, as OpenTelemetry's variables say it: the texts are theirs.
// The zero value sends none. What is not here, its libraries read by themselves
// (OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _COMPRESSION, _CERTIFICATE,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_...).
type Traces struct {
	Endpoint string // the URL that takes spans; "" for none
	Protocol string // OTEL_EXPORTER_OTLP_PROTOCOL, or ..._TRACES_PROTOCOL
	Exporter string // OTEL_TRACES_EXPORTER
	Service  string // OTEL_SERVICE_NAME; "" means amber
	Sampler  string // OTEL_TRACES_SAMPLER; "" means always_on
	Ratio    string // OTEL_TRACES_SAMPLER_ARG; "" means 1
	Queue    string // OTEL_BSP_MAX_QUEUE_SIZE; "" means 8192

	via string // what gave Endpoint
}

// TracesOf reads OpenTelemetry's variables.
func TracesOf(getenv func(string) string) Traces {
	t := Traces{
		Protocol: cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL")),
		Exporter: getenv("OTEL_TRACES_EXPORTER"),
		Service:  getenv("OTEL_SERVICE_NAME"),
		Sampler:  getenv("OTEL_TRACES_SAMPLER"),
		Ratio:    getenv("OTEL_TRACES_SAMPLER_ARG"),
		Queue:    getenv("OTEL_BSP_MAX_QUEUE_SIZE"),
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return t
	}
	if own := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"); own != "" {
		t.Endpoint, t.via = own, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	} else if all := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); all != "" {
		t.Endpoint, t.via = strings.TrimRight(all, "/")+"/v1/traces", "OTEL_EXPORTER_OTLP_ENDPOINT"
	}
	return t
}

// On reports whether spans are to be sent.
func (t Traces) On() bool { return t.Endpoint != "" && t.Exporter != "none" }

// Check says what is wrong with the settings, if spans are to be sent.
func (t Traces) Check() error {
	if !t.On() {
		return nil
	}
	if u, err := url.Parse(t.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s is not the URL of a collector: want something like http://127.0.0.1:4318", cmp.Or(t.via, "the endpoint of traces"))
	}
	if t.Exporter != "" && t.Exporter != "otlp" {
		return fmt.Errorf("OTEL_TRACES_EXPORTER: %q: want otlp, or none", t.Exporter)
	}
	if t.Protocol != "" && t.Protocol != "http/protobuf" {
		return fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q: amber speaks http/protobuf alone; collectors take that on port 4318", t.Protocol)
	}
	if _, err := t.ratio(); err != nil {
		return err
	}
	_, err := t.queue()
	return err
}

// ratio is the part of traces that are kept. A run is the root of its trace, so the
// samplers that ask a parent are what they are for roots.
func (t Traces) ratio() (float64, error) {
	switch strings.TrimPrefix(t.Sampler, "parentbased_") {
	case "", "always_on":
		return 1, nil
	case "always_off":
		return 0, nil
	case "traceidratio":
		r, err := strconv.ParseFloat(cmp.Or(t.Ratio, "1"), 64)
		if err != nil || !(r >= 0 && r <= 1) {
			return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q: want the part of runs that are traced, a number from 0 to 1", t.Ratio)
		}
		return r, nil
	}
	return 0, fmt.Errorf("OTEL_TRACES_SAMPLER: %q: want always_on, always_off or traceidratio, or one of these with parentbased_ before it", t.Sampler)
}

// defaultQueue is how many spans may wait to be sent.
const defaultQueue = 8192

func (t Traces) queue() (int, error) {
	if t.Queue == "" {
		return defaultQueue, nil
	}
	n, err := strconv.Atoi(t.Queue)
	if err != nil || n < 1 || n > 1<<20 {
		return 0, fmt.Errorf("OTEL_BSP_MAX_QUEUE_SIZE: %q: want a number of spans from 1 to %d", t.Queue, 1<<20)
	}
	return n, nil
}
