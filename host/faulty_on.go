//go:build failpoints

package host

import (
	"fmt"
	"os"
	"time"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/stack"
)

// faulty gives a host of the fault harness the ledger, short leases and little grace.
func faulty(c stack.Config) stack.Config {
	if at := os.Getenv("AMBER_FAULT_LEDGER"); at != "" {
		c.Services[ledger.Name] = ledger.Client{URL: at}
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
