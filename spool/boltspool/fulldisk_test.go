package boltspool_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestFullDiskListener fills the disk of a mail host by SMTP. Clients are told
// to try again, handlers go on to fail and to succeed, and there is room again
// when messages have left or another file was deleted. The long form does it on
// a real disk; the short form has the operating system say how much is free.
func TestFullDiskListener(t *testing.T) {
	if !*boltspool.Long {
		t.Run("mail", func(t *testing.T) { fillPretended(t, 20_000) })
		t.Run("big mail", func(t *testing.T) { fillPretended(t, 1_300_000) })
		return
	}
	t.Run("mail", func(t *testing.T) { fillReal(t, false, 20_000) })
	t.Run("big mail", func(t *testing.T) { fillReal(t, false, 1_300_000) })
	t.Run("another file", func(t *testing.T) { fillReal(t, true, 20_000) })
}

// fillPretended is the short form.
func fillPretended(t *testing.T, size int) {
	opts, setFree := boltspool.PretendFree(&boltspool.Options{Reserve: 4 << 20})
	h := newFullHost(t, filepath.Join(t.TempDir(), "spool"), opts)
	for range 20 {
		h.accepted(size)
	}
	setFree(1)
	h.full(size)
	h.work()
	setFree(0)
	h.roomAgain(size)
	h.finish()
}

// fillReal is the long form.
func fillReal(t *testing.T, byFile bool, size int) {
	disk, err := testdisk.New(t, 48)
	if err != nil {
		t.Fatal(err)
	}
	h := newFullHost(t, filepath.Join(disk, "spool"), &boltspool.Options{Reserve: 4 << 20, SegmentSize: 2 << 20})
	for range 10 {
		h.accepted(size)
	}
	ballast := filepath.Join(disk, "ballast")
	if byFile {
		if err := os.WriteFile(ballast, make([]byte, 60<<20), 0o600); err == nil {
			t.Fatal("60 MiB found room on a disk of 48")
		}
	}
	h.full(size)
	h.work()
	if byFile {
		h.full(size)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	h.roomAgain(size)
	h.finish()
}

// A fullHost is a mail host whose handlers fail until open is set.
type fullHost struct {
	t    *testing.T
	c    *textproto.Conn
	bag  *mailbag
	open atomic.Bool
	mu   struct {
		sync.Mutex
		failed    map[spool.ID]bool
		delivered map[spool.ID]string // digests
	}
	progress chan struct{}
}

func newFullHost(t *testing.T, dir string, opts *boltspool.Options) *fullHost {
	t.Helper()
	h := &fullHost{t: t, bag: newMailbag(), progress: make(chan struct{}, 1)}
	h.mu.failed, h.mu.delivered = map[spool.ID]bool{}, map[spool.ID]string{}
	opts.Logger = slog.New(slog.DiscardHandler)
	sp, err := boltspool.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	sched, err := queue.NewScheduler(sp, h.handle, &queue.Options{
		Logger:    opts.Logger,
		Configure: func(string) queue.Config { return queue.Config{Backoff: hostBackoff(300 * time.Millisecond)} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := smtpserver.NewListener(sched, &smtpserver.Options{Listener: ln, DeferredQueue: true, Logger: opts.Logger})
	if err != nil {
		t.Fatal(err)
	}
	h.run(sched, l)
	if h.c, err = textproto.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.c.Close() })
	if _, _, err = h.c.ReadResponse(220); err == nil {
		err = command(h.c, 250, "EHLO client.example")
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// run starts the host and has it joined before its spool is closed.
func (h *fullHost) run(sched *queue.Scheduler, l *smtpserver.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := sched.Run(ctx); err != nil {
			h.t.Error(err)
		}
	})
	all.Go(func() { l.ListenAndServe() })
	h.t.Cleanup(func() {
		l.Close()
		cancel()
		all.Wait()
	})
}

// handle is the inject callback.
func (h *fullHost) handle(_ context.Context, m *queue.Message) error {
	defer func() {
		select {
		case h.progress <- struct{}{}:
		default:
		}
	}()
	body, err := m.Open()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	open := h.open.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !open {
		h.mu.failed[m.ID] = true
		return errors.New("not yet")
	}
	h.mu.delivered[m.ID] = digest(sentPart(content))
	return nil
}

func (h *fullHost) send(size int) error {
	h.t.Helper()
	err := h.bag.send(h.c, paddedContent(size), "ok")
	if reply, ok := errors.AsType[*textproto.Error](err); ok && reply.Code != 452 {
		h.t.Fatalf("the host replied %v, want 250 or 452", reply)
	}
	if _, ok := errors.AsType[*textproto.Error](err); err != nil && !ok {
		h.t.Fatal(err)
	}
	if err != nil {
		if err := command(h.c, 250, "RSET"); err != nil {
			h.t.Fatal(err)
		}
	}
	return err
}

func (h *fullHost) accepted(size int) {
	h.t.Helper()
	if err := h.send(size); err != nil {
		h.t.Fatal(err)
	}
}

// full sends until the host says that it is.
func (h *fullHost) full(size int) {
	h.t.Helper()
	for range 10_000 {
		if h.send(size) != nil {
			return
		}
	}
	h.t.Fatal("10,000 messages have found room")
}

// await waits for progress until f, called with the lock held, is true.
func (h *fullHost) await(what string, f func() bool) {
	h.t.Helper()
	for timeout := time.After(hostTimeout); ; {
		h.mu.Lock()
		ok := f()
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-h.progress:
		case <-timeout:
			h.t.Fatalf("no end of waiting for %s", what)
		}
	}
}

// work has every message fail and then succeed, all on a full disk.
func (h *fullHost) work() {
	h.t.Helper()
	h.await("every message to fail", func() bool { return len(h.mu.failed) == h.bag.count() })
	h.open.Store(true)
	h.await("every message", func() bool { return len(h.mu.delivered) >= h.bag.count() })
}

// roomAgain tries as a client does until it is accepted.
func (h *fullHost) roomAgain(size int) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(hostTimeout); h.send(size) != nil; {
		select {
		case <-tick.C:
		case <-timeout:
			h.t.Fatal("there is room, and the host does not accept again")
		}
	}
}

// finish compares what was acknowledged with what was delivered.
func (h *fullHost) finish() {
	h.t.Helper()
	h.await("the last message", func() bool { return len(h.mu.delivered) >= h.bag.count() })
	h.bag.mu.Lock()
	defer h.bag.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t.Logf("%d messages were acknowledged", len(h.bag.mu.acked))
	for id, sum := range h.bag.mu.acked {
		if got := h.mu.delivered[id]; got != sum {
			h.t.Errorf("%s was delivered as %q, want %s", id, got, sum)
		}
	}
	for id := range h.mu.delivered {
		if _, ok := h.bag.mu.acked[id]; !ok {
			h.t.Errorf("%s was refused and delivered", id)
		}
	}
}
