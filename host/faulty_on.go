//go:build failpoints

package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// deaf is a ledger that goes on with what it is asked when nobody waits for it any
// more, if it does not take long: answers come too late.
type deaf struct{ ledger.Client }

func (d deaf) Call(ctx context.Context, call service.Call, meta service.Meta) (json.RawMessage, error) {
	var ask ledger.Ask
	if args := call.Args(); len(args) == 1 && json.Unmarshal(args[0], &ask) == nil && ask.Delay < 1000 {
		ctx = context.WithoutCancel(ctx)
	}
	return d.Client.Call(ctx, call, meta)
}

// faulty gives a host of the fault harness the ledger, short leases and little grace.
func faulty(c stack.Config) stack.Config {
	if at := os.Getenv("AMBER_FAULT_LEDGER"); at != "" {
		c.Services[ledger.Name] = deaf{ledger.Client{URL: at}}
	}
	if text := os.Getenv("AMBER_FAULT_LEASE"); text != "" {
		lease, err := time.ParseDuration(text)
		if err != nil {
			fmt.Fprintf(os.Stderr, "AMBER_FAULT_LEASE: %v\n", err)
			os.Exit(2)
		}
		c.Lease, c.Sweep, c.Tidy, c.Grace, c.Remove = lease, lease/10, lease, lease, lease/4
	}
	return c
}
