package smtpserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// A troubledSpool holds what a test says, as far as Queues tells, and carries
// the test's other troubles to the goroutines of the Listener.
type troubledSpool struct {
	*spool.Memory
	mu struct {
		sync.Mutex
		infos  []spool.QueueInfo
		err    error // of Queues
		asked  int   // how often Queues was called
		ready  error // nil: as it is
		memory int64 // in use
	}
}

func (s *troubledSpool) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *troubledSpool) holds(infos ...spool.QueueInfo) { s.set(func() { s.mu.infos = infos }) }

func (s *troubledSpool) Queues(context.Context) iter.Seq2[spool.QueueInfo, error] {
	return func(yield func(spool.QueueInfo, error) bool) {
		s.mu.Lock()
		infos, err := s.mu.infos, s.mu.err
		s.mu.asked++
		s.mu.Unlock()
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(spool.QueueInfo{}, err)
		}
	}
}

// A gatedHost is a host whose gate a test can close in every way.
type gatedHost struct {
	*host
	ln    *pipeListener
	spool *troubledSpool
}

// inGatedBubble runs f in virtual time.
func inGatedBubble(t *testing.T, limits Limits, f func(h *gatedHost)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sp := &troubledSpool{Memory: spool.NewMemory()}
		h := &gatedHost{host: newHostOn(t, sp, nil), ln: newPipeListener(), spool: sp}
		h.sp = sp.Memory
		g := newGate(h.sched, &Options{Limits: limits, Logger: h.l.gate.logger})
		ready := g.ready
		g.ready = func() (err error) {
			if sp.set(func() { err = sp.mu.ready }); err != nil {
				return err
			}
			return ready()
		}
		g.memory.read = func() (n int64, collections uint64) {
			sp.set(func() { n = sp.mu.memory })
			return n, 0
		}
		h.l.gate = g
		h.serveOn(h.ln)
		f(h)
	})
}

// logged returns how many lines of log say all of these.
func (h *gatedHost) logged(parts ...string) (n int) {
lines:
	for line := range strings.Lines(h.logs.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		n++
	}
	return n
}

func inDeferred(n, bytes int64, age time.Duration) spool.QueueInfo {
	return spool.QueueInfo{Queue: queue.Deferred, Class: "-", Entries: n, Bytes: bytes, Oldest: time.Now().Add(-age)}
}

// A gateTest closes a gate and opens it again.
type gateTest struct {
	name   string // of the gate, in the log
	limits Limits
	close  func(s *troubledSpool) // under its lock
	reply  string
}

// TestGates goes through every gate that opens by itself.
func TestGates(t *testing.T) {
	unready := func(err error) func(*troubledSpool) {
		return func(s *troubledSpool) { s.mu.ready = fmt.Errorf("spool: %d bytes: %w", time.Now().UnixNano(), err) }
	}
	holds := func(infos ...spool.QueueInfo) func(*troubledSpool) {
		return func(s *troubledSpool) { s.mu.infos = infos }
	}
	for _, tt := range []gateTest{
		{"spool quota", Limits{}, unready(spool.ErrQuota), "452 4.3.1 Spool quota reached, try again later"},
		{"inodes", Limits{}, unready(spool.ErrNoInodes), "452 4.3.1 Insufficient inodes, try again later"},
		{"disk space", Limits{}, unready(spool.ErrFull), "452 4.3.1 Insufficient disk space, try again later"},
		{"spool busy", Limits{}, unready(spool.ErrBusy), "451 4.3.2 Too busy, try again later"},
		{"record buffer", Limits{}, unready(queue.ErrRecordsFull), "451 4.3.2 Too many log records are waiting, try again later"},
		{"memory", Limits{Memory: 100}, func(s *troubledSpool) { s.mu.memory = 101 }, "452 4.3.1 Insufficient memory, try again later"},
		{"queued messages", Limits{QueuedMessages: 5},
			holds(inDeferred(3, 0, 0), spool.QueueInfo{Queue: "x", State: spool.Held, Entries: 2}),
			"452 4.3.1 Too many messages are queued, try again later"},
		{"queued bytes", Limits{QueuedBytes: 1000},
			holds(inDeferred(1, 1, 0), spool.QueueInfo{Queue: "x", State: spool.Final, Entries: 1, Bytes: 999}),
			"452 4.3.1 Too many bytes are queued, try again later"},
		{"age of the oldest message", Limits{QueuedAge: time.Hour},
			func(s *troubledSpool) { s.mu.infos = []spool.QueueInfo{inDeferred(1, 1, time.Hour)} },
			"451 4.3.2 Queued messages are waiting too long, try again later"},
	} {
		t.Run(tt.name, func(t *testing.T) { inGatedBubble(t, tt.limits, tt.run) })
	}
}

func (tt gateTest) run(h *gatedHost) {
	c, chunks := h.pipe(h.ln), h.pipe(h.ln)
	c.envelope("a@example.org")
	chunks.envelope("a@example.org")
	h.spool.set(func() { tt.close(h.spool) })
	time.Sleep(gaugeInterval + time.Nanosecond)
	c.cmd("DATA", tt.reply)
	if r := h.record(queue.Rejection); r.Response.Command != "DATA" || r.Response.Content != tt.reply[len("452 4.3.1 "):] {
		h.t.Errorf("the record of the refused DATA says %+v", r.Response)
	}
	c.cmd("RSET", "250")
	chunks.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(plain), plain))
	chunks.want(tt.reply)
	h.nothing()
	for range 3 {
		h.spool.set(func() { tt.close(h.spool) }) // the text of the reason may be another one now
		c.cmd("MAIL FROM:<>", tt.reply)
	}
	other := h.pipe(h.ln) // may connect, and stay
	other.cmd("MAIL FROM:<>", tt.reply)
	h.record(queue.Rejection) // of BDAT
	if r := h.record(queue.Rejection); !strings.HasPrefix(r.Response.Command, "MAIL") || r.Response.Code/100 != 4 {
		h.t.Errorf("the record of the refused MAIL says %+v", r.Response)
	}

	h.spool.set(func() { h.spool.mu.ready, h.spool.mu.infos, h.spool.mu.memory = nil, nil, 0 })
	time.Sleep(gaugeInterval)
	wantPrefix(h.t, c.data(plain, "a@example.org"), "250")
	wantPrefix(h.t, other.data(plain, "a@example.org"), "250")
	gate := fmt.Sprintf("gate=%q", tt.name)
	if !strings.Contains(tt.name, " ") {
		gate = "gate=" + tt.name
	}
	for _, line := range []string{"smtp gate closed", "smtp gate opened"} {
		if all, this := h.logged(line), h.logged(line, gate); all != 1 || this != 1 {
			h.t.Errorf("%d lines say %q, %d of them with %s, want one:\n%s", all, line, this, gate, h.logs)
		}
	}
}

// TestGateLogs: one line for each gate that closes or opens, whatever the
// details of its reason, also when one closes as another opens.
func TestGateLogs(t *testing.T) {
	var now error
	var log bytes.Buffer
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	g := &gate{ready: func() error { return now }, logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: noTime}))}
	for _, tt := range []struct {
		is       error
		connects bool
	}{
		{nil, true},
		{spool.ErrQuota, true},
		{fmt.Errorf("again: %w", spool.ErrQuota), true},
		{spool.ErrFull, true},
		{nil, true},
		{queue.ErrRecordsFull, true},
		{spool.ErrFailed, false},
		{spool.ErrFenced, false},
		{spool.ErrClosed, false},
		{errors.New("who knows"), false},
	} {
		now = tt.is
		for range 3 {
			if err := g.check(); err != tt.is {
				t.Errorf("%v: check says %v", tt.is, err)
			}
			if err := g.connect(); tt.connects && err != nil || !tt.connects && err != tt.is {
				t.Errorf("%v: connect says %v", tt.is, err)
			}
		}
	}
	g.drain()
	g.drain()
	if err := g.check(); !errors.Is(err, errDraining) {
		t.Errorf("draining: check says %v", err)
	}
	if err := g.connect(); !errors.Is(err, errDraining) {
		t.Errorf("draining: connect says %v", err)
	}
	const want = `level=WARN msg="smtp gate closed, no messages are accepted" gate="spool quota" reason="spool: quota used up"
level=WARN msg="smtp gate closed, no messages are accepted" gate="disk space" reason="spool: no space"
level=INFO msg="smtp gate opened" gate="spool quota" accepting=false
level=INFO msg="smtp gate opened" gate="disk space" accepting=true
level=WARN msg="smtp gate closed, no messages are accepted" gate="record buffer" reason="queue: too many records wait to be taken"
level=WARN msg="smtp gate closed, no messages are accepted" gate="spool failed" reason="spool: storage failed"
level=INFO msg="smtp gate opened" gate="record buffer" accepting=false
level=WARN msg="smtp gate closed, no messages are accepted" gate="spool session lost" reason="spool: entry is not owned at this revision"
level=INFO msg="smtp gate opened" gate="spool failed" accepting=false
level=WARN msg="smtp gate closed, no messages are accepted" gate="spool closed" reason="spool: closed"
level=INFO msg="smtp gate opened" gate="spool session lost" accepting=false
level=WARN msg="smtp gate closed, no messages are accepted" gate=spool reason="who knows"
level=INFO msg="smtp gate opened" gate="spool closed" accepting=false
level=INFO msg="smtp listener is shutting down"
`
	if got := log.String(); got != want {
		t.Errorf("log:\n%swant:\n%s", got, want)
	}
}

func TestQueueLimits(t *testing.T) {
	old := inDeferred(1, 10, time.Hour+time.Minute)
	held, elsewhere, none, suspension := old, old, old, old
	suspension.Queue = queue.Suspensions
	held.State, elsewhere.Queue, none.Entries = spool.Held, "tenant@example.com", 0
	for _, tt := range []struct {
		name   string
		limits Limits
		infos  []spool.QueueInfo
		want   *reply
	}{
		{"empty", Limits{QueuedMessages: 1, QueuedBytes: 1, QueuedAge: 1}, nil, nil},
		{"below", Limits{QueuedMessages: 3, QueuedBytes: 21}, []spool.QueueInfo{old, held}, nil},
		{"messages", Limits{QueuedMessages: 2}, []spool.QueueInfo{old, held}, replyQueuedMessages},
		{"bytes", Limits{QueuedBytes: 20}, []spool.QueueInfo{old, elsewhere}, replyQueuedBytes},
		{"the first of several", Limits{QueuedMessages: 1, QueuedBytes: 1, QueuedAge: 1}, []spool.QueueInfo{old}, replyQueuedMessages},
		{"old", Limits{QueuedAge: time.Hour}, []spool.QueueInfo{inDeferred(1, 1, 0), old, inDeferred(1, 1, 0)}, replyQueuedAge},
		{"young", Limits{QueuedAge: 2 * time.Hour}, []spool.QueueInfo{old}, nil},
		{"old, but held", Limits{QueuedAge: time.Hour}, []spool.QueueInfo{held}, nil},
		{"old, but in another queue", Limits{QueuedAge: time.Hour}, []spool.QueueInfo{elsewhere}, nil},
		{"gone", Limits{QueuedAge: time.Hour}, []spool.QueueInfo{none}, nil},
		{"a suspension", Limits{QueuedMessages: 1, QueuedBytes: 1, QueuedAge: 1}, []spool.QueueInfo{suspension}, nil},
		{"no limits", Limits{QueuedMessages: -1}, []spool.QueueInfo{old}, nil},
	} {
		var q queued
		for _, info := range tt.infos {
			q.add(info)
		}
		if got := queueLimits(tt.limits).beyond(q, time.Now()); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestCountsAsked: the spool is asked for its counts only if a limit needs them,
// and once a second however many ask.
func TestCountsAsked(t *testing.T) {
	for _, tt := range []struct {
		limits Limits
		want   int
	}{{Limits{}, 0}, {Limits{Memory: 1 << 40, QueuedBytes: -1}, 0}, {Limits{QueuedMessages: 1}, 4}} {
		inGatedBubble(t, tt.limits, func(h *gatedHost) {
			synctest.Wait()
			h.spool.set(func() { h.spool.mu.asked = 0 }) // by the scheduler, when it began
			c := h.pipe(h.ln)
			for range 30 {
				c.cmd("MAIL FROM:<>", "250")
				c.cmd("RSET", "250")
				time.Sleep(100 * time.Millisecond)
			}
			c.cmd("MAIL FROM:<>", "250")
			h.spool.set(func() {
				if h.spool.mu.asked != tt.want {
					h.t.Errorf("%+v: the spool was asked %d times in 3 s, want %d", tt.limits, h.spool.mu.asked, tt.want)
				}
			})
		})
	}
}

// TestCountsUnknown: a gate stays as it is while the spool does not tell its
// counts, and that is logged once.
func TestCountsUnknown(t *testing.T) {
	inGatedBubble(t, Limits{QueuedMessages: 1}, func(h *gatedHost) {
		c := h.pipe(h.ln)
		for _, closed := range []bool{false, true} {
			h.spool.holds()
			reply := "250"
			if closed {
				h.spool.holds(inDeferred(1, 1, 0))
				reply = "452 4.3.1"
			}
			time.Sleep(gaugeInterval)
			c.cmd("MAIL FROM:<>", reply)
			h.spool.set(func() {
				h.spool.mu.err, h.spool.mu.infos = errors.New("the database is away"), []spool.QueueInfo{inDeferred(2, 0, 0)}
				if closed {
					h.spool.mu.infos = nil
				}
			})
			for range 3 {
				time.Sleep(gaugeInterval)
				c.cmd("RSET", "250")
				c.cmd("MAIL FROM:<>", reply)
			}
			c.cmd("RSET", "250")
			h.spool.set(func() { h.spool.mu.err = nil })
		}
		if n := h.logged("a limit cannot be checked", "the database is away"); n != 2 {
			h.t.Errorf("%d lines of log, want one for each time that it began:\n%s", n, h.logs)
		}
	})
}

// TestGauge: nobody but the one who reads waits for a slow spool, and one that
// panics is asked again.
func TestGauge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan *reply)
		g := &gauge{logger: discardLogger(), read: func() (*reply, error) { return <-answer, nil }}
		done := make(chan struct{})
		go func() {
			g.refresh()
			close(done)
		}()
		synctest.Wait() // it reads
		time.Sleep(time.Hour)
		g.refresh()
		if err := g.beyond(); err != nil {
			t.Errorf("before the first answer: %v", err)
		}
		answer <- replyQueuedAge
		<-done
		if err := g.beyond(); err != replyQueuedAge {
			t.Errorf("after it: %v", err)
		}

		time.Sleep(gaugeInterval)
		g.read = func() (*reply, error) { panic("spool") }
		func() {
			defer func() { _ = recover() }()
			g.refresh()
			t.Error("the panic was swallowed")
		}()
		if err := g.beyond(); err != replyQueuedAge {
			t.Errorf("after a panic: %v", err)
		}
		time.Sleep(gaugeInterval)
		g.read = func() (*reply, error) { return nil, nil }
		g.refresh()
		if err := g.beyond(); err != nil {
			t.Errorf("after the next answer: %v", err)
		}
	})
}

// TestSpoolQuota uses up the quota of a spool on disk by SMTP and has the inject
// callback open it again.
func TestSpoolQuota(t *testing.T) {
	sp, err := boltspool.Open(filepath.Join(t.TempDir(), "spool"), &boltspool.Options{Quota: 200_000, Logger: discardLogger()})
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
	content := func(lines int) string {
		return "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", lines)
	}
	c := h.greeted()
	wantPrefix(t, c.data(content(3000), "a@example.org"), "552 5.3.4") // it will never fit
	accepted := 0
	for reply := ""; !strings.HasPrefix(reply, "452"); accepted++ {
		if reply = c.data(content(90), "a@example.org"); accepted > 30 {
			t.Fatalf("%d messages of 9,000 octets were accepted; reply %q", accepted, reply)
		}
		if strings.HasPrefix(reply, "452") && reply != "452 4.3.1 Spool quota reached, try again later\r\n" {
			t.Errorf("the message that does not fit: %q", reply)
		}
	}
	accepted--
	c.cmd("MAIL FROM:<>", "452 4.3.1 Spool quota reached, try again later")
	h.greeted().cmd("MAIL FROM:<>", "452 4.3.1 Spool quota reached, try again later")
	close(release)
	for range accepted {
		h.next()
	}
	for deadline := time.Now().Add(patience); sp.Health() != nil; runtime.Gosched() { // removed soon
		if time.Now().After(deadline) {
			t.Fatalf("all messages are gone, and Health is %v", sp.Health())
		}
	}
	wantPrefix(t, c.data(content(90), "a@example.org"), "250")
	h.next()
}

func TestMemoryLimit(t *testing.T) {
	old := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(old)
	for _, tt := range []struct{ process, limit, want int64 }{
		{math.MaxInt64, 0, 0},
		{math.MaxInt64, -1, 0},
		{math.MaxInt64, 5, 5},
		{4 << 30, 0, 3 << 30},
		{4 << 30, -1, 0},
		{4 << 30, 8 << 30, 8 << 30},
	} {
		debug.SetMemoryLimit(tt.process)
		if got := memoryLimit(tt.limit); got != tt.want {
			t.Errorf("Memory %d with GOMEMLIMIT %d is %d, want %d", tt.limit, tt.process, got, tt.want)
		}
	}
}

// TestMemoryCollected: what was let go of is noticed although nothing is
// collected by itself, and a collection is asked for every ten seconds at most,
// and only beyond the limit.
func TestMemoryCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inUse, known, collections, asked := int64(5), int64(5), uint64(1), 0
		g := &gate{logger: discardLogger(), memory: memory{
			read: func() (int64, uint64) { return known, collections },
			collect: func() {
				known = inUse
				collections++
				asked++
			},
		}}
		gauge := g.memoryGauge(10)
		tick := func(seconds int) error {
			for range seconds {
				time.Sleep(gaugeInterval)
				gauge.refresh()
			}
			return gauge.beyond()
		}
		if err := tick(100); err != nil || asked != 0 {
			t.Errorf("below the limit: %v, asked for %d collections", err, asked)
		}
		inUse, known, collections = 20, 20, 2
		if err := tick(35); err != replyMemory || asked != 3 {
			t.Errorf("for 35 s beyond the limit: %v, asked for %d collections, want 3", err, asked)
		}
		inUse = 1
		if err := tick(10); err != nil || asked != 4 {
			t.Errorf("10 s after the memory was let go of: %v, asked for %d collections", err, asked)
		}
		known = 20
		for range 100 { // the runtime collects by itself
			collections++
			if err := tick(1); err != replyMemory || asked != 4 {
				t.Fatalf("while it is collected: %v, asked for %d collections", err, asked)
			}
		}
	})
}

func TestReadMemory(t *testing.T) {
	const size = 32 << 20
	runtime.GC()
	before, first := readMemory()
	b := make([]byte, size)
	runtime.GC()
	with, _ := readMemory()
	runtime.KeepAlive(b)
	b = nil
	runtime.GC()
	after, last := readMemory()
	if last-first < 2 {
		t.Errorf("%d collections were counted, want 2 at least", last-first)
	}
	if before <= 0 || with-before < size/2 || with-after < size/2 {
		t.Errorf("%d bytes in use, %d with 32 MiB more, %d without", before, with, after)
	}
}
