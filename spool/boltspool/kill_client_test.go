package boltspool_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

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

// snapshot returns what was acknowledged so far: the digest of each content.
func (b *mailbag) snapshot() map[spool.ID]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.mu.acked)
}

// clients deliver messages of these kinds until the host is gone. stop joins
// them.
func (b *mailbag) clients(t *testing.T, addr string, kinds ...string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := b.deliver(ctx, addr, kinds); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// load waits until n more messages were acknowledged.
func (b *mailbag) load(h *hostProcess, n int) {
	h.t.Helper()
	for goal := b.count() + n; b.count() < goal; {
		select {
		case <-b.ack:
		case <-time.After(hostTimeout):
			h.kill()
			h.t.Fatalf("the host does not accept messages; it said:\n%s", &h.stderr)
		}
	}
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
	if rand.IntN(50) == 0 {
		return paddedContent(900_000 + rand.IntN(2_200_000))
	}
	return paddedContent(100 + rand.IntN(20_000))
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
