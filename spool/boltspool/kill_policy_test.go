package boltspool_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A policy is what the host's handlers obey besides the recipient.
type policy struct {
	work    atomic.Bool
	setFree func(int64)
}

// inject is the inject callback: the recipient says what it does.
func (p *policy) inject(ctx context.Context, m *queue.Message) error {
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
		case "late":
			if m.Attempt <= 4 {
				return errors.New("not for long")
			}
		case "wait", "bounce", "notice":
			if !p.work.Load() {
				return errors.New("not before the test says so")
			}
		}
		if kind == "bounce" {
			return queue.Reject(550, "5.7.1 not wanted")
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
		case "notice":
			return emitNotice(ctx, m)
		}
		return nil
	})
}

// emitNotice ends a message with a notice to its sender, which becomes durable in
// the same unit.
func emitNotice(ctx context.Context, m *queue.Message) error {
	env := spool.Envelope{Recipients: []spool.Recipient{{Address: "sender@example.org"}}}
	id, err := m.Emit(ctx, env, map[string]string{"queue": outQueue}, bytes.NewReader(paddedContent(2000)))
	if err != nil {
		return err
	}
	return tell(hostEvent{Kind: "notice", ID: id, Of: m.ID})
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
