package smtpserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// readBuffer is how long a command line may be. RFC 4954, section 4, wants
// 12,288 octets for AUTH.
const readBuffer = 16 << 10

// A conn stands between the socket and go-smtp. It hands go-smtp one command
// line per Read, so that go-smtp never holds more than the current command,
// sees every reply on its way out, and keeps the deadlines. The content of DATA
// does not pass go-smtp at all: [session.Data] takes it from here.
//
// Read and Write are called on the goroutine of the connection, but for the
// content under LMTP, and for what the watchdog writes.
type conn struct {
	net.Conn // the socket: addresses
	raw      net.Conn
	lower    net.Conn // the socket, or TLS on top of it; changed before the session or by STARTTLS
	l        *Listener
	s        *session
	r        *bufio.Reader
	ctx      context.Context // ends with the connection
	cancel   context.CancelFunc

	started bool
	pending []byte // of the current command line, not yet handed to go-smtp
	chunk   int64  // octets of the current BDAT chunk, not yet handed to go-smtp
	d       dialogue

	// broken is set when reading ended or the connection was given up: from then on
	// no command is executed and nothing is committed.
	broken atomic.Bool

	mu struct {
		sync.Mutex
		busy    bool      // in a transaction
		until   time.Time // the end of DataTimeout; zero: no content is awaited
		drained bool
	}
	write struct {
		sync.Mutex
		cut bool // the last word was said
	}
	closing sync.Once
}

func newConn(l *Listener, raw net.Conn, refused *reply) *conn {
	c := &conn{Conn: raw, raw: raw, lower: raw, l: l}
	c.ctx, c.cancel = context.WithCancel(l.ctx)
	c.r = bufio.NewReaderSize(lowerReader{c}, readBuffer)
	c.s = newSession(c)
	c.d.refused = refused
	return c
}

// Read hands go-smtp the next command line, or a part of a BDAT chunk.
func (c *conn) Read(p []byte) (int, error) {
	for {
		switch {
		case len(c.pending) > 0:
			n := copy(p, c.pending)
			c.pending = c.pending[n:]
			return n, nil
		case c.broken.Load():
			return 0, io.EOF
		case c.chunk > 0:
			return c.readChunk(p)
		}
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			c.readFailed(err)
			return 0, io.EOF
		}
		c.pending = c.command(line)
	}
}

// readChunk reads from the current BDAT chunk. An end of the connection inside
// it breaks the session: go-smtp would take the chunk for complete.
func (c *conn) readChunk(p []byte) (int, error) {
	n, err := c.r.Read(p[:min(int64(len(p)), c.chunk)])
	c.chunk -= int64(n)
	if err != nil {
		c.readFailed(err)
		return n, io.EOF
	}
	return n, nil
}

// readFailed ends the session after a failed read, and tells a client that may
// still listen why.
func (c *conn) readFailed(err error) {
	if c.broken.Load() {
		return
	}
	c.broken.Store(true)
	c.d.command = "" // what follows answers no command
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		c.answer(replyCommandLine)
	case errors.Is(err, errDraining):
		c.answer(replyDraining)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if c.idleDrain() {
			c.answer(replyDraining)
			return
		}
		c.answer(replyIdle)
	}
}

// fail gives the connection up: go-smtp reads the end of it next.
func (c *conn) fail() { c.broken.Store(true) }

// lowerReader reads from the socket, or from TLS, with the deadline that holds.
type lowerReader struct{ c *conn }

func (r lowerReader) Read(p []byte) (int, error) {
	if err := r.c.arm(); err != nil {
		return 0, err
	}
	return r.c.lower.Read(p)
}

// arm sets the deadline of the next read. Shutdown sets one in the past
// instead; the lock keeps the two apart.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.drained && !c.mu.busy {
		return errDraining
	}
	var at time.Time
	if d := c.l.opts.Limits.ClientTimeout; d > 0 {
		at = time.Now().Add(d)
	}
	if u := c.mu.until; !u.IsZero() && (at.IsZero() || u.Before(at)) {
		at = u
	}
	return c.raw.SetReadDeadline(at)
}

// awaitContent starts DataTimeout, unless it runs.
func (c *conn) awaitContent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.l.opts.Limits.DataTimeout; d > 0 && c.mu.until.IsZero() {
		c.mu.until = time.Now().Add(d)
	}
}

// setBusy says whether the connection is in a transaction, which Shutdown waits for.
func (c *conn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.busy = busy
	c.mu.until = time.Time{}
}

// drain ends the connection as soon as it is in no transaction.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.drained = true
	if !c.mu.busy {
		c.raw.SetReadDeadline(time.Unix(1, 0)) // wakes a read; arm refuses the next
	}
}

// idleDrain reports whether Shutdown wants the end of this connection now.
func (c *conn) idleDrain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.drained && !c.mu.busy
}

// Write takes one line of a reply of go-smtp's. The first is the greeting,
// which is ours.
func (c *conn) Write(p []byte) (int, error) {
	if !c.started {
		c.started = true
		c.start()
		return len(p), nil
	}
	return len(p), c.passReply(p)
}

// send writes to the client, unless the last word was said.
func (c *conn) send(p []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	if c.write.cut {
		return net.ErrClosed
	}
	return c.sendLocked(p)
}

func (c *conn) sendLocked(p []byte) error {
	if d := c.l.opts.Limits.ClientTimeout; d > 0 {
		c.raw.SetWriteDeadline(time.Now().Add(d))
	}
	_, err := c.lower.Write(p)
	if err != nil {
		c.fail()
	}
	return err
}

// cutOff is the watchdog's last word: n times r, and the end of the connection.
func (c *conn) cutOff(r *reply, n int) {
	c.write.Lock()
	c.write.cut = true
	c.sendLocked(bytes.Repeat(r.line(), n))
	c.write.Unlock()
	c.abort()
}

// abort closes the socket at once. What was not committed is not committed any
// more; the goroutine of the connection notices by itself.
func (c *conn) abort() {
	c.fail()
	c.cancel()
	c.raw.Close()
}

// Close is called by go-smtp when the session is over, after Logout.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.closing.Do(func() {
		c.broken.Store(true)
		c.cancel()
		c.s.awaitContentEnd()
		err = c.lower.Close()
		c.l.forget(c)
	})
	return err
}
