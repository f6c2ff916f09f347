package vm_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
	"github.com/google/uuid"
)

// A task runs until it awaits something of the outside. Then its VM becomes
// bytes, which any host with the same keys turns back into the running task.
func Example() {
	ctx := context.Background()
	entry, _ := keys.NewKey("k1")
	ring, _ := keys.ParseRing(entry)
	engine, err := vm.New(ctx, vm.Options{Keys: ring})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer engine.Close(ctx)

	frame := uuid.Must(uuid.NewV7())
	out, _ := engine.Start(ctx, vm.StartParams{
		Frame: frame,
		Name:  "greet",
		Code: `module.exports = async ({ id }, { tools }) => {
			const user = await tools.users.get(id);
			return 'Hello, ' + user.name;
		}`,
		Input: json.RawMessage(`{"id": 7}`),
	})
	call := out.Calls[0]
	fmt.Println("waits for", call.Service, call.Method(), string(call.Args()[0]))
	stored := out.Snapshot.Encode()

	snapshot, _ := vm.DecodeSnapshot(stored)
	out, _ = engine.Resume(ctx, frame, snapshot, []vm.Reply{
		{ID: call.ID, Reply: service.Reply{Value: json.RawMessage(`{"name": "Ada"}`)}},
	})
	fmt.Println("returned", string(out.Result))
	// Output:
	// waits for users get 7
	// returned "Hello, Ada"
}

func ExampleEngine_Check() {
	fmt.Println(shared.Check(context.Background(), "greet", "module.exports = async () => {\n  return 1 +;\n}"))
	// Output: greet.js:2:13: unexpected token in expression: ';'
}
