package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// options are what the command line says.
type options struct {
	once   bool
	addr   string
	spool  string
	outbox string
	slow   time.Duration
	retry  time.Duration
}

func parse(args []string, out io.Writer) (*options, error) {
	var o options
	fs := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.BoolVar(&o.once, "once", false, "end after the demonstration")
	fs.StringVar(&o.addr, "addr", "127.0.0.1:2525", "address to listen on; port 0 takes a free one")
	fs.StringVar(&o.spool, "spool", filepath.Join(home(), "spool"), "directory of the spool")
	fs.StringVar(&o.outbox, "outbox", "", "directory that delivered messages are written to (default outbox, beside the spool)")
	fs.DurationVar(&o.slow, "slow", 1500*time.Millisecond, "how long the policy takes for each message")
	fs.DurationVar(&o.retry, "retry", time.Second, "when a failed message is tried again, doubled each time")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("quickstart: unexpected argument %q; see -help", fs.Arg(0))
	}
	if o.slow < 0 || o.retry <= 0 {
		return nil, fmt.Errorf("quickstart: -slow %v -retry %v: want a duration, such as 500ms, and a retry above zero", o.slow, o.retry)
	}
	if o.outbox == "" {
		o.outbox = filepath.Join(filepath.Dir(o.spool), "outbox")
	}
	return &o, nil
}

// home is a directory of the user's that survives a restart.
func home() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "deferredqueue-quickstart")
}

// backoff is short, so that a demonstration of retries takes seconds. The
// default of the library begins at a minute.
func (o *options) backoff() queue.Backoff { return queue.Backoff{Base: o.retry, Factor: 2} }

func (o *options) configure(string) queue.Config {
	return queue.Config{Backoff: o.backoff(), MaxAge: time.Hour}
}
