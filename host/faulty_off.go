//go:build !failpoints

package host

import "github.com/amberhost/amber/stack"

// faulty is for builds of the fault harness.
func faulty(c stack.Config) stack.Config { return c }
