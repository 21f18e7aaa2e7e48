// Command recordctl shows what a record log has: see recordctl help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `recordctl shows the records in a directory of package recordlog.

    recordctl cat    DIR [flags]       all records, the oldest segment first
    recordctl follow DIR [flags]       the same from the beginning, and what is written
                                       from then on; with -new that alone
    recordctl show   DIR ID [flags]    the life of one message, in the order of time
    recordctl stats  DIR [flags]       how many there are, by type and queue
    recordctl help

Flags:
%s
An ID has the time at which it was made: segments that were finished an hour before
that are not read, unless -since says so.

With -json each record is a line of JSON as it stands in the log, for jq; without, a
line for people. Damage is named on standard error, and everything else is shown.
`

// The exit codes.
const (
	exitFine   = 0
	exitDamage = 1 // something could not be read
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage is what the command line has wrong.
type errUsage struct{ error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{ctx: ctx, out: stdout, err: stderr}
	err := a.run(args)
	var wrong errUsage
	switch {
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "recordctl: %v\nSee recordctl help.\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "recordctl: %v\n", err)
		return exitDamage
	case a.damaged:
		return exitDamage
	}
	return exitFine
}

// An app is one call of the command.
type app struct {
	ctx      context.Context
	out, err io.Writer
	flags    flags
	damaged  bool
}

func (a *app) run(args []string) error {
	fs := flag.NewFlagSet("recordctl", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	a.flags.define(fs)
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		var defaults strings.Builder
		fs.SetOutput(&defaults)
		fs.PrintDefaults()
		_, err := fmt.Fprintf(a.out, usage, defaults.String())
		return err
	}
	command := map[string]func() error{"cat": a.cat, "follow": a.follow, "show": a.show, "stats": a.stats}[args[0]]
	if command == nil {
		return errUsage{fmt.Errorf("there is no command %q", args[0])}
	}
	rest, err := parse(fs, args[1:])
	if err != nil {
		return errUsage{err}
	}
	return a.with(command, args[0], rest)
}

// with checks what is no flag.
func (a *app) with(command func() error, name string, rest []string) error {
	want := 1
	if name == "show" {
		want = 2
	}
	if len(rest) != want {
		return errUsage{fmt.Errorf("%s: want %s", name, map[int]string{1: "one directory", 2: "a directory and an ID"}[want])}
	}
	if a.flags.limit < 0 {
		return errUsage{fmt.Errorf("-limit %d is negative", a.flags.limit)}
	}
	if a.flags.new {
		if name != "follow" {
			return errUsage{fmt.Errorf("%s: -new is for follow", name)}
		}
		a.flags.query.From = time.Now()
	}
	a.flags.dir = rest[0]
	if want == 2 {
		if err := a.flags.query.ID.UnmarshalText([]byte(rest[1])); err != nil {
			return errUsage{err}
		}
	}
	if info, err := os.Stat(a.flags.dir); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is no directory", a.flags.dir)
	}
	return command()
}

// parse takes flags before, between and behind the other arguments.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
}
