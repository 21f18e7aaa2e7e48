package boltspool_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/textproto"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A hostProcess is a mail host in a process of its own.
type hostProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer // complete once the process has ended
	events chan hostEvent
	seen   []hostEvent // taken out of events so far
}

func startHost(t *testing.T, dir string, base time.Duration) *hostProcess {
	t.Helper()
	h := &hostProcess{t: t, cmd: exec.Command(os.Args[0]), events: make(chan hostEvent, 1024)}
	h.cmd.Env = append(os.Environ(), hostDirEnv+"="+dir, hostBaseEnv+"="+base.String())
	h.cmd.Stderr = &h.stderr
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go h.read(stdout)
	return h
}

// read ends when every line of the process has been read.
func (h *hostProcess) read(r io.Reader) {
	defer close(h.events)
	for lines := json.NewDecoder(r); ; {
		var ev hostEvent
		if err := lines.Decode(&ev); err != nil {
			return
		}
		h.events <- ev
	}
}

// until takes events until one satisfies f, and returns it.
func (h *hostProcess) until(what string, f func(hostEvent) bool) hostEvent {
	h.t.Helper()
	for timeout := time.After(hostTimeout); ; {
		select {
		case ev, ok := <-h.events:
			if !ok {
				err := h.cmd.Wait()
				h.t.Fatalf("the host ended (%v), want %s; it said:\n%s", err, what, &h.stderr)
			}
			h.seen = append(h.seen, ev)
			if f(ev) {
				return ev
			}
		case <-timeout:
			h.kill()
			h.t.Fatalf("no %s from the host; it said:\n%s", what, &h.stderr)
		}
	}
}

// listening waits until the host can be dialled.
func (h *hostProcess) listening() string {
	h.t.Helper()
	return h.until("address", func(ev hostEvent) bool { return ev.Kind == "listening" }).Addr
}

// kill ends the host as nothing else does, and returns all that it told.
func (h *hostProcess) kill() []hostEvent {
	h.cmd.Process.Kill() // an error says that it has ended already
	events, _ := h.wait()
	return events
}

// stop ends the host as its operator would.
func (h *hostProcess) stop() []hostEvent {
	h.t.Helper()
	h.stdin.Close()
	events, err := h.wait()
	if err != nil {
		h.t.Errorf("the host stopped with %v; it said:\n%s", err, &h.stderr)
	}
	return events
}

// wait returns all that the host told until its end, which it awaits.
func (h *hostProcess) wait() ([]hostEvent, error) {
	for ev := range h.events {
		h.seen = append(h.seen, ev)
	}
	return h.seen, h.cmd.Wait()
}

// A mailbag is what clients have sent, and what was acknowledged of it.
type mailbag struct {
	mu struct {
		sync.Mutex
		sent  map[string]bool     // digests of contents, acknowledged or not
		acked map[spool.ID]string // the digest of its content
		kinds map[spool.ID]string
	}
	ack chan struct{} // a hint after each acknowledgement
}

func newMailbag() *mailbag {
	b := &mailbag{ack: make(chan struct{}, 1)}
	b.mu.sent = map[string]bool{}
	b.mu.acked = map[spool.ID]string{}
	b.mu.kinds = map[spool.ID]string{}
	return b
}

func (b *mailbag) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.acked)
}

// deliver sends messages until the host is gone or ctx is done. Any other end,
// or a refusal, is the error.
func (b *mailbag) deliver(ctx context.Context, addr string, kinds []string) error {
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		return nil // killed
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, _, err := c.ReadResponse(220); err != nil {
		return refusal(err)
	}
	if err := command(c, 250, "EHLO client.example"); err != nil {
		return refusal(err)
	}
	for {
		rcpts := []string{kinds[rand.IntN(len(kinds))]}
		if rand.IntN(5) == 0 {
			rcpts = append(rcpts, kinds[rand.IntN(len(kinds))])
		}
		if err := b.send(c, mailContent(), rcpts...); err != nil {
			return refusal(err)
		}
	}
}

// refusal keeps of an error what the host said, and not that it was killed.
func refusal(err error) error {
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		return fmt.Errorf("the host refused: %w", reply)
	}
	return nil
}

// mailContent returns a message unlike any other, sometimes one that the spool
// puts into a file of its own.
func mailContent() []byte {
	size := 100 + rand.IntN(20_000)
	if rand.IntN(50) == 0 {
		size = 1_300_000
	}
	return paddedContent(size)
}

// paddedContent returns a message of about that many bytes.
func paddedContent(size int) []byte {
	b := fmt.Appendf(nil, "%s%s\r\nSubject: test\r\n\r\n", markField, spool.NewID())
	line := []byte(spool.NewID().String() + "\r\n")
	return append(b, bytes.Repeat(line, max(size-len(b), 0)/len(line)+1)...)
}

// send is one transaction with one recipient of each kind, and notes what the
// reply acknowledges.
func (b *mailbag) send(c *textproto.Conn, content []byte, kinds ...string) error {
	sum := digest(content)
	b.mu.Lock()
	b.mu.sent[sum] = true
	b.mu.Unlock()
	if err := command(c, 250, "MAIL FROM:<sender@example.org>"); err != nil {
		return err
	}
	for i, kind := range kinds {
		if err := command(c, 250, "RCPT TO:<%s.%d@example.com>", kind, i); err != nil {
			return err
		}
	}
	if err := command(c, 354, "DATA"); err != nil {
		return err
	}
	if err := writeContent(c.W, content); err != nil {
		return err
	}
	_, text, err := c.ReadResponse(250)
	if err != nil {
		return err
	}
	_, list, _ := strings.Cut(text, "ids=")
	return b.acknowledged(strings.Fields(list), sum, kinds)
}

func (b *mailbag) acknowledged(ids []string, sum string, kinds []string) error {
	if len(ids) != len(kinds) {
		return &textproto.Error{Code: 250, Msg: fmt.Sprintf("%d IDs for %d recipients", len(ids), len(kinds))}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range ids {
		id, err := spool.ParseID(s)
		if err != nil {
			return &textproto.Error{Code: 250, Msg: err.Error()}
		}
		b.mu.acked[id], b.mu.kinds[id] = sum, kinds[i]
	}
	select {
	case b.ack <- struct{}{}:
	default:
	}
	return nil
}

func command(c *textproto.Conn, code int, format string, args ...any) error {
	if err := c.PrintfLine(format, args...); err != nil {
		return err
	}
	_, _, err := c.ReadResponse(code)
	return err
}

// writeContent ends the content, no line of which begins with a dot.
func writeContent(w *bufio.Writer, content []byte) error {
	w.Write(content)
	w.WriteString(".\r\n")
	return w.Flush()
}
