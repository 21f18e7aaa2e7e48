package boltspool_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// hostEnv is the variable that makes the test binary a mail host instead: its
// hostConfig as JSON.
const hostEnv = "BOLTSPOOL_TEST_HOST"

// A hostConfig says which mail host a process is.
type hostConfig struct {
	Dir  string        // of its spool
	Base time.Duration // of the backoff of every queue

	SegmentSize, Reserve, ReserveInodes int64 // as in boltspool.Options

	OpenOnly    bool // opens the spool and does nothing with it
	NoSync      bool // the spool's syncs do nothing
	PretendFree bool // obeys sayFull and sayFree
	PretendFull bool // the same, and sayFull was said before the spool is opened

	FailSync int    // that sync of the spool fails, counted from 1; 0: none
	FailFile string // only those of such files count, as fileKind says; empty: all

	wrap []string // the command that runs the process, if it is not to run by itself
}

// What a host is told by a line on its standard input.
const (
	sayMark = "mark" // tell an event "mark": all before it was told before
	sayWork = "work" // messages to "wait", "bounce" and "notice" are no longer put off
	sayFull = "full" // the file system has no space
	sayFree = "free" // the file system has what it has
)

const (
	outQueue    = "out"         // where the host's inject callback sends everything
	processed   = "X-Processed" // what it signs with
	markField   = "X-Mark: "    // the first field that a client sends
	exitStatus  = 9             // of a host that died of a message
	hostTimeout = time.Minute   // for anything that the tests wait for
)

// TestMain runs the tests, or the mail host that they start and kill.
func TestMain(m *testing.M) {
	text := os.Getenv(hostEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var cfg hostConfig
	err := json.Unmarshal([]byte(text), &cfg)
	if err == nil {
		err = runHost(cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
}

// hostBackoff has no jitter, so that due times can be checked.
func hostBackoff(base time.Duration) queue.Backoff {
	return queue.Backoff{Base: base, Factor: 2, Jitter: -1}
}

// A hostEvent is one line of what a host tells the test. A line goes into the
// pipe whole, before the handler or the record that it is about goes on, and
// stays readable when the host is killed.
type hostEvent struct {
	Kind    string // "opening", "opened", "listening", "mark", "sync failed", "start", "notice", a verdict of a handler, or the type of a record
	Time    time.Time
	Addr    string   `json:",omitzero"` // with "listening"
	Path    string   `json:",omitzero"` // with "sync failed"
	ID      spool.ID `json:",omitzero"`
	Queue   string   `json:",omitzero"`
	Attempt int      `json:",omitzero"` // that starts; in a record, how many failed
	Of      spool.ID `json:",omitzero"` // with "notice": the message that it is about

	// With "start": what the handler got, split at the first field of the client.
	Front  string `json:",omitzero"`
	Digest string `json:",omitzero"`
}

func tell(ev hostEvent) error {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	line, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}

// runHost is a mail host until its standard input ends or its spool fails.
func runHost(cfg hostConfig) (err error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	opts := &boltspool.Options{Logger: logger, SegmentSize: cfg.SegmentSize, Reserve: cfg.Reserve, ReserveInodes: cfg.ReserveInodes}
	p := new(policy)
	if cfg.PretendFree || cfg.PretendFull {
		opts, p.setFree = boltspool.PretendFree(opts)
	}
	if cfg.PretendFull {
		p.setFree(1)
	}
	if cfg.NoSync || cfg.FailSync > 0 {
		opts = boltspool.HookSyncs(opts, cfg.syncHook())
	}
	if err := tell(hostEvent{Kind: "opening"}); err != nil {
		return err
	}
	sp, err := boltspool.Open(cfg.Dir, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sp.Close()) }()
	if err := tell(hostEvent{Kind: "opened"}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go p.listen(cancel) // ends with the process
	if cfg.OpenOnly {
		<-ctx.Done()
		return nil
	}
	l, err := newHost(cfg, sp, p, logger)
	if err != nil {
		return err
	}
	if err := tell(hostEvent{Kind: "listening", Addr: l.Addr().String()}); err != nil {
		return err
	}
	return deferred.Run(ctx, l)
}

// newHost puts together what runs on the spool.
func newHost(cfg hostConfig, sp spool.Spool, p *policy, logger *slog.Logger) (*deferred.Listener, error) {
	sched, err := queue.NewScheduler(sp, p.inject, &queue.Options{
		Logger:    logger,
		Configure: func(string) queue.Config { return queue.Config{Backoff: hostBackoff(cfg.Base)} },
		Record: func(_ context.Context, r queue.Record) error {
			return tell(hostEvent{Kind: string(r.Type), Time: r.Time, ID: r.ID, Queue: r.Queue, Attempt: r.Attempts})
		},
	})
	if err != nil {
		return nil, err
	}
	if err := sched.Handle(outQueue, outHandler); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l, err := deferred.NewListener(sched, &deferred.Options{Listener: ln, DeferredQueue: true, Logger: logger})
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return l, nil
}

// syncHook is what becomes of the spool's syncs.
func (cfg hostConfig) syncHook() func(name string, sync func() error) error {
	var n atomic.Int64
	return func(name string, sync func() error) error {
		if cfg.NoSync {
			return nil
		}
		counts := cfg.FailFile == "" || fileKind(cfg.Dir, name) == cfg.FailFile
		if !counts || n.Add(1) != int64(cfg.FailSync) {
			return sync()
		}
		err := &os.PathError{Op: "sync", Path: name, Err: syscall.EIO}
		return errors.Join(err, tell(hostEvent{Kind: "sync failed", Path: name}))
	}
}

// listen does what the test says. The end of standard input, which also comes
// when the test dies, is the end of the host.
func (p *policy) listen(stop func()) {
	defer stop()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case sayMark:
			if tell(hostEvent{Kind: "mark"}) != nil {
				return
			}
		case sayWork:
			p.work.Store(true)
		case sayFull:
			p.setFree(1)
		case sayFree:
			p.setFree(0)
		}
	}
}
