//go:build !unix

package vm

import "github.com/tetratelabs/wazero/experimental"

func reserveMemory(_, _ uint64) experimental.LinearMemory { return new(heapMemory) }
