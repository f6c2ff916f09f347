package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/amberhost/amber/service"
)

// clock answers tools.clock.in('Europe/Paris'): the time there at noon UTC.
type clock struct{ now time.Time }

// Call implements [service.Service]. An *Error reaches the task as it is, with a
// code that it can tell apart; whatever else goes wrong is a SERVICE_ERROR there.
func (c clock) Call(_ context.Context, call service.Call, _ service.Meta) (json.RawMessage, error) {
	if call.Method() != "in" {
		return nil, service.Errorf(service.CodeUnknownMethod, "clock has no method %s", call.Method())
	}
	var zone string
	if args := call.Args(); len(args) != 1 || json.Unmarshal(args[0], &zone) != nil {
		return nil, service.Errorf(service.CodeInvalidArgument, "in takes the name of a time zone")
	}
	place, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", zone, err)
	}
	return json.Marshal(c.now.In(place).Format("15:04"))
}

// A service is what a task calls as tools.<name>. It answers with the JSON text
// of what the task's await gives, or with an error, which the task can catch.
func Example() {
	var s service.Service = clock{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	ask := func(method string, args ...json.RawMessage) {
		// This is what a host makes of  await tools.clock.in("Europe/Paris")
		call := service.Call{Service: "clock", Steps: service.Path(method, args)}
		value, err := s.Call(context.Background(), call, service.Meta{Task: "wake-up", IdempotencyKey: "run-1/call-1"})
		if err == nil {
			fmt.Println("value", string(value))
			return
		}
		var answer *service.Error
		fmt.Printf("error %s, made by the service: %t\n", service.AsError(err).Code, errors.As(err, &answer))
	}
	ask("in", json.RawMessage(`"Europe/Paris"`))
	ask("in", json.RawMessage(`7`))
	ask("in", json.RawMessage(`"Middle/Earth"`))
	ask("set")
	// Output:
	// value "14:00"
	// error INVALID_ARGUMENT, made by the service: false
	// error SERVICE_ERROR, made by the service: false
	// error UNKNOWN_METHOD, made by the service: false
}
