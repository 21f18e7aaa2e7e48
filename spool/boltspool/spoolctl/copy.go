package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

func copyCommand() *command {
	return &command{
		name: "copy", args: "FROM TO [flags]", short: "copy or move messages to another spool",
		long: `
Copies all messages of the spool in FROM to the spool in TO, which is made if it is
not there. They keep their IDs: what TO has already is skipped, so that a copy that
was interrupted can be repeated. What is damaged, or is refused by TO, stays, and is
named. Hosts that run on both spools send the messages twice; with -remove they are
moved, and FROM is empty in the end but for what was left. Every few seconds a line
on standard error says how far it is.`,
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			remove := fs.Bool("remove", false, "remove from FROM what is safely in TO")
			return func(args []string) error {
				if len(args) != 2 {
					return wrong("want two directories, got %d", len(args))
				}
				return a.copy(args[0], args[1], *remove)
			}
		},
	}
}

func (a *app) copy(from, to string, remove bool) error {
	if err := mustBeSpool(from); err != nil {
		return err
	}
	if same(from, to) {
		return wrong("%s and %s are one directory", from, to)
	}
	src, err := a.open(from, &boltspool.Options{ReadOnly: !remove})
	if err != nil {
		return err
	}
	dst, err := a.open(to, &boltspool.Options{Logger: a.logger()})
	if err != nil {
		return errors.Join(err, src.Close())
	}
	said := time.Now()
	result, err := spool.Copy(a.ctx, dst, src, &spool.CopyOptions{Remove: remove, Progress: func(r spool.CopyResult) {
		if now := time.Now(); now.Sub(said) >= progressEvery {
			said = now
			a.complain("%s so far", counts(&r))
		}
	}})
	a.report(from, &result, remove)
	if err != nil {
		err = errors.New(strings.SplitN(err.Error(), "\n", 2)[0]) // all parts of it are in the report
	}
	return errors.Join(err, dst.Close(), src.Close())
}

// progressEvery is how often a copy says how far it is.
const progressEvery = 3 * time.Second

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func (a *app) report(from string, r *spool.CopyResult, remove bool) {
	for _, corrupt := range r.Damaged {
		fmt.Fprintf(a.stdout, "damaged: %s\n", describe(corrupt))
	}
	for _, id := range r.Left {
		fmt.Fprintf(a.stdout, "left in %s: %s\n", from, id)
	}
	fmt.Fprint(a.stdout, counts(r))
	if remove {
		fmt.Fprintf(a.stdout, "; %d removed from %s", r.Removed, from)
	}
	a.stdout.WriteString("\n")
}

func counts(r *spool.CopyResult) string {
	return fmt.Sprintf("%d messages copied, with %d bodies of %d bytes; %d were there already", r.Entries, r.Bodies, r.Bytes, r.Skipped)
}
