// Command bench measures how this library accepts mail, side by side with other
// servers on the same machine and in the same run:
//
//	go run ./internal/bench accept       messages a second, CPU and latency of the 250
//	go run ./internal/bench accept -reception [-check]
//	                                     CPU of reception alone, against stock go-smtp
//	go run ./internal/bench clamp        the 250 beside a callback that is slow at times
//	go run ./internal/bench spool [-check]
//	                                     commits of boltspool, beside a bare log and Pebble,
//	                                     and what it costs to have a million messages
//	go run ./internal/bench steady [-check]
//	                                     whole lives of messages for minutes: rate, writes, memory
//	go run ./internal/bench backlog [-check]
//	                                     what a million queued messages cost: CPU, memory, restarts
//	go run ./internal/bench isolation [-check]
//	                                     the hand-over beside a queue that is stuck
//	go run ./internal/bench fairness [-check]
//	                                     ten messages of one class beside a million of another
//
// Each server runs in a process of its own, and so does the client, so that the
// CPU that is printed is the server's alone; a store and its callers are one
// process, and what the callers do is little. Nothing is a timed test: figures
// are medians of rounds in which the servers take turns, and what counts is their
// ratios. It is meant for Linux; what cannot be measured is reported as absent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A command is what the first argument names.
type command struct {
	name, about string
	run         func(ctx context.Context, args []string, std streams) error
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func commands() []command {
	return []command{
		{"accept", "messages a second, CPU per message and latency of the 250, nothing is injected", runAccept},
		{"clamp", "latency of the 250 while the callback is slow, inline and deferred", runClamp},
		{"spool", "commits a second, CPU and flushes of the spool, and what a million messages in it cost", runSpool},
		{"steady", "accept, inject and remove together, for minutes", runSteady},
		{"backlog", "accepting, injecting and restarting with very many messages queued", runBacklog},
		{"isolation", "latency of the hand-over beside a queue with very many messages that are stuck", runIsolation},
		{"fairness", "how soon ten messages of one class are through beside a million of another", runFairness},
	}
}

// children are what this program runs itself as, in further processes.
func children() []command {
	return []command{
		{subjectProcess, "", runSubject},
		{loadProcess, "", runLoad},
		{storeProcess, "", runStore},
		{scaleProcess, "", runScaleProcess},
		{hostProcess, "", runHost},
		{lifeProcess, "", runLife},
		{queuedProcess, "", runQueued},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run returns the exit code: 1 for what went wrong or is below target, 2 for
// arguments that are wrong.
func run(ctx context.Context, args []string, std streams) int {
	if len(args) == 0 {
		usageText(std.err)
		return 2
	}
	for _, c := range append(commands(), children()...) {
		if c.name == args[0] {
			return exitCode(c.run(ctx, args[1:], std), std.err)
		}
	}
	fmt.Fprintf(std.err, "bench: no command %q\n", args[0])
	usageText(std.err)
	return 2
}

// errUsage marks an error that the flag package has printed already.
var errUsage = errors.New("bench: wrong arguments")

func exitCode(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(stderr, err)
	return 1
}

func usageText(w io.Writer) {
	fmt.Fprintln(w, "usage: bench COMMAND [FLAGS]    (COMMAND -help shows the flags)")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.about)
	}
}
