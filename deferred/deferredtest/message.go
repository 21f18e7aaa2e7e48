package deferredtest

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// NewMessage returns a message for calling a callback without a server: as it
// is on its first attempt, received now, with an ID and empty metadata, and
// without trace fields. content is the header and the body; lines that end
// with \n alone get CRLF, as SMTP has them. What the callback changes can be read from
// the message afterwards; nothing becomes durable.
//
// It works outside of synctest.Test too. The message is valid until the end of
// the test, which discards it.
func NewMessage(t testing.TB, env spool.Envelope, content string) *deferred.Message {
	t.Helper()
	ctx := context.Background()
	sp := spool.NewMemory()
	w, err := sp.Create(ctx, int64(len(content)))
	if err != nil {
		t.Fatalf("deferredtest: NewMessage: %v", err)
	}
	if _, err := io.WriteString(w, crlf(content)); err != nil {
		t.Fatalf("deferredtest: NewMessage: %v", err)
	}
	now := time.Now()
	e := &spool.Entry{
		ID: spool.NewID(), Body: w.ID(), Queue: queue.Deferred, Class: "-",
		Due: now, Received: now, Envelope: env.Clone(), Meta: map[string]string{},
	}
	if err := w.Commit(ctx, e); err != nil {
		t.Fatalf("deferredtest: NewMessage: %v", err)
	}
	m := queue.NewMessage(ctx, sp, e)
	t.Cleanup(func() {
		m.Discard()
		sp.Close()
	})
	return m
}

// crlf puts a CR in front of each LF that has none.
func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}
