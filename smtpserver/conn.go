package smtpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Replies wait until the next read would block, but no longer and no more than this.
const (
	maxHeldReplies = 4 << 10
	maxReplyDelay  = 100 * time.Millisecond
)

// lingering is how long, and how much, a client may go on sending behind the
// last reply: a socket that is closed with unread input takes the reply along.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// A conn stands between the socket and go-smtp. It hands go-smtp one command
// line per Read, so that go-smtp never holds more than the current command,
// sees every reply on its way out, and keeps the deadlines. Content does not pass
// go-smtp at all: [conn.data] and [conn.bdat] take it from here.
//
// Read and Write are called on the goroutine of the connection. If go-smtp puts
// TLS on top of a conn, it is opaque from then on: it passes what it cannot read.
type conn struct {
	net.Conn // the socket as it was accepted, for its addresses
	raw      net.Conn
	lower    net.Conn // raw, or our TLS on top of it; see setLower
	tracker  *tracker
	speaker  speaker
	limits   *Limits // changed on the goroutine of the connection
	in       input
	ctx      context.Context // ends with the connection
	cancel   context.CancelFunc

	started   atomic.Bool // the greeting was said
	opaque    atomic.Bool
	dry       atomic.Bool // reads of an opaque conn find nothing
	foreign   atomic.Bool // an opaque conn of whose session nothing is known: the deadlines are the host's
	pending   []byte      // of the current command line, not yet handed to go-smtp
	lineUntil time.Time   // when the command line must be complete; zero: none has begun

	// broken is set when reading ended or the connection was given up: from then on
	// no command is executed and nothing is committed.
	broken atomic.Bool

	mu struct {
		sync.Mutex
		busy    bool      // in a transaction
		until   time.Time // the end of DataTimeout; zero: no content is awaited
		armed   armed     // the deadline of reads
		drained bool
	}
	out struct {
		sync.Mutex
		buf     []byte // replies that were not written yet
		since   time.Time
		armed   armed // the deadline of writes
		cut     bool  // the last word was said
		lingers bool  // the client may still be sending behind it
	}
	closing sync.Once
}

// A speaker says what passes over a conn.
type speaker interface {
	// greet is told of go-smtp's greeting.
	greet(line []byte)
	// command looks at a command line before go-smtp does, and returns what go-smtp
	// is to see of it: nothing if it was answered here.
	command(line []byte) []byte
	// reply takes a line of a reply of go-smtp's.
	reply(line []byte)
	// end is told that reading ended. r says why to a client that may still listen.
	end(r *reply)
}

// sendBuffer bounds what the kernel keeps for a client that does not read: by
// itself it would take megabytes.
const sendBuffer = 64 << 10

func newConn(t *tracker, raw net.Conn, limits *Limits) *conn {
	if tcp, ok := raw.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(sendBuffer) // without it replies are sent all the same
	}
	c := &conn{Conn: raw, raw: raw, lower: raw, tracker: t, limits: limits}
	c.ctx, c.cancel = context.WithCancel(t.ctx)
	c.in = input{src: lowerReader{c}, shared: &t.buffers}
	return c
}

// Read hands go-smtp the next command line.
func (c *conn) Read(p []byte) (int, error) {
	if c.opaque.Load() || !c.started.Load() { // who reads before the greeting speaks TLS
		c.opaque.Store(true)
		return c.readOpaque(p)
	}
	for len(c.pending) == 0 {
		if c.broken.Load() {
			c.in.release()
			return 0, io.EOF
		}
		line, err := c.in.line(c.lineBegun)
		c.lineUntil = time.Time{}
		if err != nil {
			c.readFailed(err)
			return 0, io.EOF
		}
		c.pending = c.speaker.command(line)
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// readOpaque reads for go-smtp's TLS.
func (c *conn) readOpaque(p []byte) (int, error) {
	switch {
	case c.broken.Load():
		return 0, io.EOF
	case c.dry.Load():
		return 0, os.ErrDeadlineExceeded
	}
	if c.in.buf != nil {
		if w := c.in.window(); len(w) > 0 {
			n := copy(p, w)
			c.in.skip(n)
			return n, nil
		}
		c.in.release()
	}
	if c.foreign.Load() {
		return c.lower.Read(p)
	}
	n, err := lowerReader{c}.Read(p)
	if err != nil {
		c.fail()
	}
	return n, err
}

// passOn has the conn pass whatever comes from now on, for as long as it takes.
func (c *conn) passOn() {
	c.flush()
	c.setBusy(true) // as far as anybody knows
	c.lower.SetDeadline(time.Time{})
	c.foreign.Store(true)
	c.opaque.Store(true)
}

// readFailed ends the session after a failed read.
func (c *conn) readFailed(err error) {
	if c.broken.Load() {
		return
	}
	var r *reply
	switch {
	case errors.Is(err, errLineTooLong):
		r = replyCommandLine
	case errors.Is(err, errExcess):
		r = replyExcess
	case errors.Is(err, errDraining), errors.Is(err, os.ErrDeadlineExceeded) && c.idleDrain():
		r = replyDraining
	case errors.Is(err, os.ErrDeadlineExceeded):
		r = replyIdle
	}
	c.speaker.end(r)
	c.fail()
}

// fail gives the connection up: go-smtp reads the end of it next.
func (c *conn) fail() { c.broken.Store(true) }

// lost reports whether the connection was given up.
func (c *conn) lost() bool { return c.broken.Load() }

func (c *conn) context() context.Context { return c.ctx }

// setBusy says whether the connection is in a transaction, which Shutdown waits for.
func (c *conn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.busy = busy
	c.mu.until = time.Time{}
}

// idleDrain reports whether Shutdown wants the end of this connection now.
func (c *conn) idleDrain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.drained && !c.mu.busy
}

// Write takes one line of a reply of go-smtp's, or a record of its TLS.
func (c *conn) Write(p []byte) (int, error) {
	switch {
	case c.opaque.Load():
		return c.writeOpaque(p)
	case !c.started.Load():
		c.started.Store(true)
		c.speaker.greet(p)
	default:
		c.speaker.reply(p)
	}
	return len(p), nil
}

func (c *conn) writeOpaque(p []byte) (int, error) {
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.cut {
		return 0, net.ErrClosed
	}
	return len(p), c.writeLocked(p)
}

// say queues a line for the client. It is written before the next read, or when
// it has waited for a while.
func (c *conn) say(line []byte) {
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.cut {
		return
	}
	now := time.Now()
	if len(c.out.buf) == 0 {
		c.out.since = now
	}
	c.out.buf = append(c.out.buf, line...)
	if len(c.out.buf) >= maxHeldReplies || now.Sub(c.out.since) > maxReplyDelay {
		c.flushLocked()
	}
}

// lastWord says that nothing is written any more, and whether the client may
// still be sending.
func (c *conn) lastWord(sending bool) {
	c.fail()
	c.out.Lock()
	defer c.out.Unlock()
	c.out.cut, c.out.lingers = true, sending
}

// flush writes the replies that wait.
func (c *conn) flush() error {
	c.out.Lock()
	defer c.out.Unlock()
	return c.flushLocked()
}

func (c *conn) flushLocked() error {
	if len(c.out.buf) == 0 {
		return nil
	}
	err := c.writeLocked(c.out.buf)
	if c.out.buf = c.out.buf[:0]; cap(c.out.buf) > maxReply {
		c.out.buf = nil
	}
	return err
}

func (c *conn) writeLocked(p []byte) error {
	c.armWriteLocked()
	_, err := c.lower.Write(p)
	if err != nil {
		c.fail()
	}
	return err
}

// cutOff is the watchdog's last word: n times r, and the end of the connection.
func (c *conn) cutOff(r *reply, n int) {
	c.out.Lock()
	if !c.out.cut {
		c.out.cut = true
		c.out.buf = append(c.out.buf, bytes.Repeat(r.line(), n)...)
		c.flushLocked()
	}
	c.out.Unlock()
	c.abort()
}

// abort closes the socket at once. What was not committed is not committed any
// more; the goroutine of the connection notices by itself.
func (c *conn) abort() {
	c.fail()
	c.cancel()
	c.raw.Close()
}

// setLower puts something on top of the socket.
func (c *conn) setLower(lower net.Conn) {
	c.out.Lock()
	defer c.out.Unlock()
	c.lower = lower
}

// Close is called by go-smtp when the session is over, after Logout; for hosts
// with a server of their own that may be on another goroutine.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.closing.Do(func() {
		c.fail()
		c.flush()
		c.out.Lock()
		lower, lingers := c.lower, c.out.lingers
		c.out.Unlock()
		if lingers && c.ctx.Err() == nil {
			c.linger(lower)
		}
		c.cancel()
		err = lower.Close()
		c.tracker.forget(c)
	})
	return err
}

// linger lets the client read the last reply.
func (c *conn) linger(lower net.Conn) {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	if t, ok := lower.(*tls.Conn); ok {
		t.CloseWrite()
	}
	if half.CloseWrite() == nil {
		c.raw.SetReadDeadline(time.Now().Add(lingerTime))
		io.CopyN(io.Discard, c.raw, lingerBytes)
	}
}

// Deadlines are the conn's own; those of go-smtp are heard by a foreign conn alone.

// SetDeadline does nothing, but on a foreign conn.
func (c *conn) SetDeadline(t time.Time) error { return c.heard(c.lower.SetDeadline, t) }

// SetReadDeadline does nothing, but on a foreign conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.heard(c.lower.SetReadDeadline, t) }

// SetWriteDeadline does nothing, but on a foreign conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.heard(c.lower.SetWriteDeadline, t) }

func (c *conn) heard(set func(time.Time) error, t time.Time) error {
	if !c.foreign.Load() {
		return nil
	}
	return set(t)
}
