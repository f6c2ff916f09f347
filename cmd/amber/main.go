// Command amber runs JavaScript tasks that survive the host's death.
//
//	amber dev                        a host with its own Postgres, for development
//	amber serve                      a host on a database, for production
//	amber publish FILE|DIR...        send tasks to a running host
//	amber run NAME --input JSON      start a task and watch it
//	amber runs, logs, status         look at what runs, and at what ran
//
// amber help has them all.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal asks for an orderly stop. Before anybody hears of it,
	// signals have their default effect again: a second one ends the process at once.
	signals, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(signals, func() { stop(); cancel() })
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, environ: os.Environ()}
	os.Exit(p.run(ctx, os.Args[1:]))
}
