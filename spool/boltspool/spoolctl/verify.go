package main

import (
	"flag"
	"fmt"
	"log/slog"

	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

func verifyCommand() *command {
	return &command{
		name: "verify", args: "DIR", short: "read everything, and report damage",
		long: `
Reads everything in the spool in DIR: the index, the log, every message, every
body. It writes a line for each damage, and a summary. It answers 1 if there is
damage. Records of the index that are damaged, and that the log has, are damage of
the disk: no message is lost, and the host repairs them when it opens the spool.`,
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			return func(args []string) error {
				dir, err := oneDir(args)
				if err != nil {
					return err
				}
				return a.verify(dir)
			}
		},
	}
}

func (a *app) verify(dir string) error {
	result, err := boltspool.Verify(a.ctx, dir, &boltspool.Options{LockTimeout: -1, Logger: slog.New(slog.DiscardHandler)})
	for _, corrupt := range result.Damaged {
		fmt.Fprintf(a.stdout, "damaged: %s\n", describe(corrupt))
	}
	if err != nil && a.ctx.Err() == nil {
		return cannotOpen(dir, err, true)
	}
	if err != nil {
		return fmt.Errorf("%w; up to there: %v", err, result)
	}
	a.left = len(result.Damaged) > 0 || result.Healed > 0
	fmt.Fprintln(a.stdout, result)
	return nil
}
