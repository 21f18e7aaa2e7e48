package smtpserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/queue"
)

var memoryMode = Options{DeferredQueue: true, DeferredSpool: true}

// TestDeferredSpool: a message is in the spool only when it has to wait, or is big.
func TestDeferredSpool(t *testing.T) {
	big := "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1100)
	for _, tt := range []struct {
		name, content string
		verdict       error
		during, after int // messages in the spool
		record        queue.RecordType
	}{
		{"delivered", plain, nil, 0, 0, queue.Delivery},
		{"dropped", plain, queue.Drop("unwanted"), 0, 0, queue.AdminBounce},
		{"rejected", plain, queue.Reject(550, "5.1.1 nobody"), 0, 0, queue.Bounce},
		{"fails", plain, errors.New("later"), 0, 1, queue.TransientFailure},
		{"held", plain, queue.Hold("wait"), 0, 1, queue.TransientFailure},
		{"panics", plain, nil, 0, 1, queue.TransientFailure},
		{"big", big, nil, 1, 0, queue.Delivery},
		{"big, fails", big, errors.New("later"), 1, 1, queue.TransientFailure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, &memoryMode)
			running, release := make(chan int, 1), make(chan struct{})
			h.setInject(func(context.Context, *queue.Message) error {
				running <- h.entries()
				<-release
				if tt.name == "panics" {
					panic("callback")
				}
				return tt.verdict
			})
			reply := h.greeted().data(tt.content, "a@example.org") // 250 while the callback runs
			wantPrefix(t, reply, "250 2.0.0 OK ids=")
			if got := <-running; got != tt.during {
				t.Errorf("%d messages are in the spool while the callback runs, want %d", got, tt.during)
			}
			close(release)
			r := h.record(tt.record)
			if !strings.Contains(reply, r.ID.String()) {
				t.Errorf("record of %s behind %q", r.ID, reply)
			}
			h.stopScheduler()
			if got := h.entries(); got != tt.after {
				t.Errorf("%d messages are in the spool afterwards, want %d", got, tt.after)
			}
			if tt.after > 0 {
				h.wantStored(t, r.ID.String(), tt.content)
			}
		})
	}
}

// wantStored fails unless a message is in the spool as it was received.
func (h *host) wantStored(t *testing.T, id, content string) {
	t.Helper()
	e := h.onlyEntry()
	if e == nil || e.ID.String() != id {
		t.Fatalf("%+v is stored, want %s", e, id)
	}
	if !strings.Contains(string(e.Header), "Received: from client.example") || e.Size != int64(len(e.Header)+len(content)) {
		t.Errorf("%d octets behind %q are stored, want %d", e.Size, e.Header, len(e.Header)+len(content))
	}
}

// TestDeferredSpoolTogether: messages of one body are stored together when one fails.
func TestDeferredSpoolTogether(t *testing.T) {
	h := serve(t, &memoryMode)
	release := make(chan struct{})
	h.setInject(func(_ context.Context, m *queue.Message) error {
		if m.Envelope.Recipients[0].Address == "a@example.org" {
			return errors.New("later")
		}
		<-release
		return nil
	})
	wantPrefix(t, h.greeted().data(plain, "a@example.org", "b@example.org"), "250")
	h.record(queue.TransientFailure)
	if n := h.entries(); n != 2 {
		t.Errorf("%d messages are in the spool, want both", n)
	}
	close(release)
	h.record(queue.Delivery)
	if n := h.entries(); n != 1 {
		t.Errorf("%d messages are in the spool, want the one that failed", n)
	}
	if m := h.next(); !slices.Equal(addresses(m.env), []string{"b@example.org"}) || m.body() != plain {
		t.Errorf("message %+v", m)
	}
}

// TestDeferredSpoolStop: what is in memory when the Scheduler stops is stored.
func TestDeferredSpoolStop(t *testing.T) {
	inBubble(t, &memoryMode, func(h *host, ln *pipeListener) {
		running := make(chan struct{}, 1)
		h.setInject(func(ctx context.Context, _ *queue.Message) error {
			running <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		reply := h.pipe(ln).data(plain, "a@example.org")
		wantPrefix(h.t, reply, "250")
		<-running
		h.stopScheduler()
		e := h.onlyEntry()
		if e == nil || !strings.Contains(reply, e.ID.String()) || e.Attempts != 0 {
			h.t.Fatalf("%+v is stored behind %q", e, reply)
		}
	})
}

// TestDeferredSpoolChunks: BDAT and a spool that is full are the same in memory.
func TestDeferredSpoolChunks(t *testing.T) {
	h := serve(t, &memoryMode)
	c := h.greeted()
	c.envelope("a@example.org")
	c.cmd("BDAT 5 LAST\r\nx\r\n", "250 2.0.0 OK ids=") // cmd sends another CRLF
	if m := h.next(); m.body() != "x\r\n\r\n" {
		t.Errorf("content %q", m.body())
	}
	h.sp.SetFull(true)
	c.cmd("MAIL FROM:<>", "452 4.3.1")
}
