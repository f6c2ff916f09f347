package vm_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/amberhost/amber/vm"
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if compileCache, err = os.MkdirTemp("", "amber-vm-test"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(compileCache)
	vm.SharedCache = compileCache
	for _, e := range []**vm.Engine{&shared, &other} {
		if *e, err = vm.New(context.Background(), vm.Options{CacheDir: compileCache, Concurrency: 4, Keys: ring()}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer (*e).Close(context.Background())
	}
	return m.Run()
}
