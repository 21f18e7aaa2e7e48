package main

import (
	"bufio"
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// What the process answers.
const (
	exitFine  = 0
	exitLeft  = 1 // there is damage, or something was left undone
	exitUsage = 2 // wrong usage, or a spool that cannot be opened
)

// run does what the command line says, and returns what the process answers.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{ctx: ctx, stdin: stdin, stdout: bufio.NewWriter(stdout), stderr: stderr, now: time.Now(), zone: time.Local}
	return a.run(args)
}

// An app is one call of the command.
type app struct {
	ctx    context.Context
	stdin  io.Reader
	stdout *bufio.Writer
	stderr io.Writer
	now    time.Time
	zone   *time.Location // in which times are shown
	utc    bool
	json   bool
	left   bool // something is damaged, or was left undone
}

// A command is what the first argument names.
type command struct {
	name  string
	args  string // what comes behind the name
	short string // what it does, in a line
	long  string // the same in full
	// setup defines the flags, and returns what does the work. args are those that
	// are no flags.
	setup func(a *app, fs *flag.FlagSet) func(args []string) error
}

func commands() []*command {
	return []*command{
		listCommand(), queuesCommand(), showCommand(), verifyCommand(),
		exportCommand(), copyCommand(), rebuildCommand(), helpCommand(),
	}
}

func find(name string) *command {
	for _, c := range commands() {
		if c.name == name {
			return c
		}
	}
	return nil
}

// A usageError says what is wrong with the command line, or why a spool cannot be
// opened.
type usageError struct {
	err     error
	command string // whose help says more, if it is not empty
	hint    string // what can be done
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func (a *app) run(args []string) int {
	err := a.dispatch(args)
	if ferr := a.stdout.Flush(); ferr != nil {
		err = errors.Join(err, ferr)
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		if a.left {
			return exitLeft
		}
		return exitFine
	}
	a.complain("%v", err)
	usage := (*usageError)(nil)
	if !errors.As(err, &usage) {
		return exitLeft
	}
	if usage.command != "" {
		usage.hint = "See spoolctl help " + usage.command + "."
	}
	if usage.hint != "" {
		fmt.Fprintln(a.stderr, usage.hint)
	}
	return exitUsage
}

func (a *app) dispatch(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(a.stderr, overview())
		return &usageError{err: errors.New("a command is missing")}
	}
	if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		args[0] = "help"
	}
	c := find(args[0])
	if c == nil {
		fmt.Fprint(a.stderr, overview())
		return &usageError{err: fmt.Errorf("there is no command %q", args[0])}
	}
	fs := newFlags(c)
	work := c.setup(a, fs)
	rest, err := parse(fs, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		a.help(c)
		return err
	}
	if err == nil {
		if a.utc {
			a.zone = time.UTC
		}
		err = work(rest)
	}
	if usage := (*usageError)(nil); errors.As(err, &usage) && usage.command == "?" {
		usage.command = c.name
	}
	return err
}

// wrong is the error of a command line.
func wrong(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), command: "?"}
}

func newFlags(c *command) *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// parse reads flags wherever they stand among the other arguments, which it
// returns. Behind -- there are no more.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, wrong("%w", err)
		}
		parsed := args[:len(args)-fs.NArg()]
		if args = fs.Args(); len(args) == 0 {
			return rest, nil
		}
		if n := len(parsed); n > 0 && parsed[n-1] == "--" {
			return append(rest, args...), nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// complain tells of what goes wrong, or may.
func (a *app) complain(format string, args ...any) {
	fmt.Fprintf(a.stderr, "spoolctl: "+format+"\n", args...)
}

func overview() string {
	var b strings.Builder
	b.WriteString("spoolctl looks into the spool of a host that is stopped, or into a backup.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  spoolctl %-8s %s\n", c.name, c.short)
	}
	b.WriteString("\nspoolctl help COMMAND says more. It answers 0 if all is fine, 1 if there is damage\n" +
		"or something was left undone, 2 if it was called wrongly or a spool cannot be opened.\n")
	return b.String()
}

func helpCommand() *command {
	return &command{
		name: "help", args: "[COMMAND]", short: "explain a command",
		long: "Explains a command, or names all.",
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			return func(args []string) error {
				if len(args) == 0 {
					a.stdout.WriteString(overview())
					return nil
				}
				c := find(args[0])
				if c == nil {
					return wrong("there is no command %q", args[0])
				}
				a.help(c)
				return nil
			}
		},
	}
}

// help writes all about a command.
func (a *app) help(c *command) {
	fs := newFlags(c)
	c.setup(a, fs)
	fmt.Fprintf(a.stdout, "usage: spoolctl %s %s\n\n%s\n", c.name, c.args, strings.TrimSpace(c.long))
	n := 0
	fs.VisitAll(func(*flag.Flag) { n++ })
	if n > 0 {
		a.stdout.WriteString("\n")
		fs.SetOutput(a.stdout)
		fs.PrintDefaults()
	}
}
