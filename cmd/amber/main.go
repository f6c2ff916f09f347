// Command amber runs JavaScript tasks that survive the host's death.
//
//	amber dev                        a host with its own Postgres, for development
//	amber publish FILE|DIR...        send tasks to a running host
//	amber run NAME --input JSON      start a task and watch it
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly stop. After it signals have their
	// default effect again, so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
