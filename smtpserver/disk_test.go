package smtpserver

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestFullDisk fills a real file system by SMTP. The listener answers 452 and
// nothing worse, and accepts again when there is room. Without -long TestFull
// shows the same on a spool in memory.
func TestFullDisk(t *testing.T) {
	if !*long {
		t.Log("short form: see TestFull; with -long on a real disk")
		return
	}
	disk, err := testdisk.New(t, 48)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := boltspool.Open(filepath.Join(disk, "spool"), &boltspool.Options{Reserve: 8 << 20, SegmentSize: 4 << 20, Logger: discardLogger()})
	if err != nil {
		t.Fatal(err)
	}
	h := newHostOn(t, sp, nil).serve()
	release := make(chan struct{})
	h.setInject(func(ctx context.Context, _ *queue.Message) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	content := "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 5000)
	c := h.greeted()
	accepted, full := 0, ""
	for full == "" && accepted < 1000 {
		full = c.try(content)
		if full == "" {
			accepted++
		}
	}
	wantPrefix(t, full, "452 4.3.1")
	if accepted < 10 {
		t.Errorf("the disk was full after %d messages", accepted)
	}
	wantPrefix(t, h.greeted().cmd("MAIL FROM:<>", "4"), "452 4.3.1")
	close(release)
	for range accepted {
		if m := h.next(); m.body() != content {
			t.Errorf("content of %d octets, want %d", len(m.body()), len(content))
		}
	}
	for end := time.Now().Add(patience); ; {
		reply := h.greeted().try(content)
		if reply == "" {
			break
		}
		wantPrefix(t, reply, "452 4.3.1")
		if time.Now().After(end) {
			t.Fatalf("there is room again, but: %s", reply)
		}
	}
	h.next()
	if err := sp.Health(); err != nil {
		t.Errorf("Health: %v", err)
	}
}

// try sends a message and returns the reply that refuses it, empty if none did.
func (c *client) try(content string) string {
	c.t.Helper()
	for _, step := range []string{"MAIL FROM:<>", "RCPT TO:<a@example.org>", "DATA", content + "."} {
		c.send(step + "\r\n")
		got, err := c.reply()
		if err != nil {
			c.t.Fatalf("%.40q: %q, %v", step, got, err)
		}
		if got[0] != '2' && got[0] != '3' {
			return got
		}
	}
	return ""
}
