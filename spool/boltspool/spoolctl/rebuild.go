package main

import (
	"flag"
	"fmt"
	"log/slog"

	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

const rebuildWarning = `rebuild makes the index of the spool anew from its log. No message is lost by that,
but some that had ended may come back, and are then sent once more: what said that
they ended may be gone. Their IDs are in the records of the host. The old index
stays beside the new one. Do it only if the spool cannot be opened otherwise, and
keep a copy of the directory.`

func rebuildCommand() *command {
	return &command{
		name: "rebuild", args: "DIR -yes", short: "make a damaged index anew from the log",
		long: `
Makes the index of the spool in DIR anew when it is so damaged that the spool cannot
be opened. Without -yes it only says what that means:

` + rebuildWarning,
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			yes := fs.Bool("yes", false, "do it")
			return func(args []string) error {
				dir, err := oneDir(args)
				if err != nil {
					return err
				}
				if !*yes {
					a.complain("%s", rebuildWarning)
					return wrong("nothing was done: -yes is missing")
				}
				return a.rebuild(dir)
			}
		},
	}
}

func (a *app) rebuild(dir string) error {
	result, err := boltspool.Rebuild(dir, &boltspool.Options{LockTimeout: -1, Logger: a.logger()})
	if err != nil {
		return cannotOpen(dir, err, false)
	}
	a.left = result.Damaged > 0
	fmt.Fprintf(a.stdout, "%d messages are in the new index of %s; %d were left out, whose bodies are gone, most likely since they had ended; %d parts of the log are damaged\n",
		result.Entries, dir, result.LeftOut, result.Damaged)
	return nil
}

// logger writes what a spool reports aside from any call to standard error.
func (a *app) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.TimeKey && groups == nil {
				return slog.Attr{}
			}
			return attr
		},
	}))
}
