package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/amberhost/amber/service"
)

// warehouse answers tools.warehouse.reserve(sku, quantity).
type warehouse struct {
	mu       sync.Mutex
	onHand   map[string]int
	reserved map[string]int // by idempotency key: what is left after it
}

// Call implements [service.Service]. An *Error reaches the task as it is, with a
// code for the task to look at; any other error becomes one with SERVICE_ERROR.
func (w *warehouse) Call(_ context.Context, call service.Call, meta service.Meta) (json.RawMessage, error) {
	if call.Method() != "reserve" {
		return nil, service.Errorf(service.CodeUnknownMethod, "warehouse has no method %s", call.Method())
	}
	var sku string
	var quantity int
	args := call.Args()
	if len(args) != 2 || json.Unmarshal(args[0], &sku) != nil || json.Unmarshal(args[1], &quantity) != nil {
		return nil, service.Errorf(service.CodeInvalidArgument, "reserve takes a sku and a quantity")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	left, again := w.reserved[meta.IdempotencyKey]
	if !again { // a host that died may have made the call already
		left = w.onHand[sku] - quantity
		if left < 0 {
			return nil, service.Errorf("OUT_OF_STOCK", "%d %s wanted, %d on hand", quantity, sku, w.onHand[sku])
		}
		w.onHand[sku], w.reserved[meta.IdempotencyKey] = left, left
	}
	return json.Marshal(map[string]int{"left": left})
}

// A service answers what tasks call as tools.<name>: with the JSON text that
// the task's await gives, or with an error that the task can catch.
func Example() {
	var s service.Service = &warehouse{onHand: map[string]int{"tea": 5}, reserved: make(map[string]int)}
	ask := func(key, method string, args ...json.RawMessage) {
		// What a host makes of  await tools.warehouse.reserve("tea", 3)
		call := service.Call{Service: "warehouse", Steps: service.Path(method, args)}
		value, err := s.Call(context.Background(), call, service.Meta{Task: "order", IdempotencyKey: key})
		if err != nil {
			e := service.AsError(err) // what the task catches
			fmt.Println(e.Code+":", e.Message)
			return
		}
		fmt.Println(string(value))
	}
	tea, three := json.RawMessage(`"tea"`), json.RawMessage(`3`)
	ask("call-1", "reserve", tea, three)
	ask("call-1", "reserve", tea, three) // the same call, made again after a crash
	ask("call-2", "reserve", tea, three)
	ask("call-3", "reserve", tea)
	ask("call-4", "sell", tea, three)
	// Output:
	// {"left":2}
	// {"left":2}
	// OUT_OF_STOCK: 3 tea wanted, 2 on hand
	// INVALID_ARGUMENT: reserve takes a sku and a quantity
	// UNKNOWN_METHOD: warehouse has no method sell
}
