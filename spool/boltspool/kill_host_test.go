package boltspool_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// The environment that makes the test binary a mail host instead: the directory
// of its spool, and the Base of its backoff.
const (
	hostDirEnv  = "BOLTSPOOL_TEST_HOST"
	hostBaseEnv = "BOLTSPOOL_TEST_HOST_BASE"
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
	dir := os.Getenv(hostDirEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := runHost(dir, os.Getenv(hostBaseEnv)); err != nil {
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
	Kind    string // "listening", "start", a verdict of a handler, or the type of a record
	Time    time.Time
	Addr    string   `json:",omitzero"`
	ID      spool.ID `json:",omitzero"`
	Queue   string   `json:",omitzero"`
	Attempt int      `json:",omitzero"` // that starts; in a record, how many failed

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

// runHost is a mail host until its standard input ends.
func runHost(dir, base string) (err error) {
	delay, err := time.ParseDuration(base)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	sp, err := boltspool.Open(dir, &boltspool.Options{Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sp.Close()) }()
	sched, err := queue.NewScheduler(sp, injectHandler, &queue.Options{
		Logger:    logger,
		Configure: func(string) queue.Config { return queue.Config{Backoff: hostBackoff(delay)} },
		Record: func(_ context.Context, r queue.Record) error {
			return tell(hostEvent{Kind: string(r.Type), Time: r.Time, ID: r.ID, Queue: r.Queue, Attempt: r.Attempts})
		},
	})
	if err != nil {
		return err
	}
	if err := sched.Handle(outQueue, outHandler); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l, err := smtpserver.NewListener(sched, &smtpserver.Options{Listener: ln, DeferredQueue: true, Logger: logger})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	return serveHost(sched, l)
}

// serveHost runs what runHost has put together, and joins it.
func serveHost(sched *queue.Scheduler, l *smtpserver.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- sched.Run(ctx) }()
	go func() { served <- l.ListenAndServe() }()
	err := tell(hostEvent{Kind: "listening", Addr: l.Addr().String()})
	if err == nil {
		io.Copy(io.Discard, os.Stdin) // which also ends when the test dies
	}
	err = errors.Join(err, l.Shutdown(ctx))
	if e := <-served; !errors.Is(e, smtpserver.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	cancel()
	return errors.Join(err, <-ran)
}

// injectHandler is the policy: the recipient says what it does.
func injectHandler(ctx context.Context, m *queue.Message) error {
	return handle(m, func(kind string) error {
		switch kind {
		case "exit":
			os.Exit(exitStatus)
		case "slow":
			if err := pause(ctx, 150*time.Millisecond); err != nil {
				return err
			}
		case "reject":
			return queue.Reject(550, "5.7.1 not wanted")
		case "fail":
			if m.Attempt <= 2 {
				return errors.New("not yet")
			}
		}
		h, err := m.Header()
		if err != nil {
			return err
		}
		h.Prepend(processed, m.ID.String())
		m.Meta["queue"] = outQueue
		return nil
	})
}

// outHandler is the next queue.
func outHandler(ctx context.Context, m *queue.Message) error {
	return handle(m, func(kind string) error {
		switch kind {
		case "slow":
			return pause(ctx, 50*time.Millisecond)
		case "relay":
			if m.Attempt == 1 {
				return errors.New("the next hop is away")
			}
		}
		return nil
	})
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// handle tells what a handler got and, before it returns, what it decided.
func handle(m *queue.Message, decide func(kind string) error) error {
	body, err := m.Open()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	sent := sentPart(content)
	front := content[:len(content)-len(sent)]
	ev := hostEvent{Kind: "start", ID: m.ID, Queue: m.Queue, Attempt: m.Attempt, Front: string(front), Digest: digest(sent)}
	if err := tell(ev); err != nil {
		return err
	}
	kind, _, _ := strings.Cut(m.Envelope.Recipients[0].Address, ".")
	err = decide(kind)
	ev = hostEvent{Kind: "ok", ID: m.ID, Queue: m.Queue, Attempt: m.Attempt}
	var reject *queue.RejectError
	switch {
	case errors.As(err, &reject):
		ev.Kind = "reject"
	case err != nil:
		ev.Kind = "fail"
	}
	if told := tell(ev); told != nil {
		return told
	}
	return err
}

// sentPart returns what a client has sent of content: all below the trace fields.
func sentPart(content []byte) []byte {
	if i := bytes.Index(content, []byte(markField)); i >= 0 {
		return content[i:]
	}
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
