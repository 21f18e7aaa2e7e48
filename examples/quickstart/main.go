// Command quickstart is a mail service in small: a listener that answers 250
// from the embedded spool, and a policy behind it that is slow and fails at
// first. It sends itself a few messages, shows what became of them, and then
// takes mail until it is stopped. Started again, it resumes what was queued.
//
//	go run ./examples/quickstart [-once] [-addr host:port] [-spool dir] [-slow d] [-retry d]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
