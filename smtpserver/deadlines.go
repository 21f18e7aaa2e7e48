package smtpserver

import (
	"errors"
	"os"
	"time"
)

// An armed deadline is one that the socket has. To change it for each read and
// write costs more than the rest of a short command, so that one that is early
// is left: a read that it ends too soon is repeated.
type armed struct {
	known bool // else it must be set anew
	at    time.Time
}

// never says that nobody waits any longer.
var never = time.Unix(1, 0)

// lowerReader reads from the socket, or from our TLS, up to the deadline that
// holds, and after all replies were written.
type lowerReader struct{ c *conn }

func (r lowerReader) Read(p []byte) (int, error) {
	c := r.c
	if err := c.flush(); err != nil {
		return 0, err
	}
	at := c.readUntil()
	for anew := false; ; anew = true {
		if err := c.arm(at, anew); err != nil {
			return 0, err
		}
		n, err := c.lower.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !at.IsZero() && !time.Now().Before(at) {
			return n, err
		}
	}
}

// readUntil returns when the next read must end, zero for never.
func (c *conn) readUntil() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.lineUntil
	if d := c.limits.ClientTimeout; d > 0 && at.IsZero() {
		at = time.Now().Add(d)
	}
	if u := c.mu.until; !u.IsZero() && (at.IsZero() || u.Before(at)) {
		at = u
	}
	return at
}

// arm sees to it that the next read ends at that time or before. Shutdown wakes
// a read instead; the lock keeps the two apart.
func (c *conn) arm(at time.Time, anew bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.drained && !c.mu.busy {
		return errDraining
	}
	if now := c.mu.armed; !anew && now.known && (now.at.Equal(at) || !now.at.IsZero() && (at.IsZero() || now.at.Before(at))) {
		return nil
	}
	c.mu.armed = armed{true, at}
	return c.raw.SetReadDeadline(at)
}

// armOnce sets the deadline of reads that do not pass lowerReader.
func (c *conn) armOnce(d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.drained {
		return errDraining
	}
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	c.mu.armed = armed{}
	return c.raw.SetReadDeadline(at)
}

// armWriteLocked sees to it that a write ends within ClientTimeout, or up to an
// eighth of it before.
func (c *conn) armWriteLocked() {
	var at time.Time
	if d := c.limits.ClientTimeout; d > 0 {
		at = time.Now().Add(d)
		if now := c.out.armed; now.known && !now.at.After(at) && at.Sub(now.at) < d/8 {
			return
		}
	} else if c.out.armed == (armed{known: true}) {
		return
	}
	c.out.armed = armed{true, at}
	c.raw.SetWriteDeadline(at)
}

// disarm says that somebody else has set deadlines.
func (c *conn) disarm() {
	c.mu.Lock()
	c.mu.armed = armed{}
	c.mu.Unlock()
	c.out.Lock()
	c.out.armed = armed{}
	c.out.Unlock()
}

// lineBegun is called when a part of a command line is there.
func (c *conn) lineBegun() {
	if d := c.limits.ClientTimeout; d > 0 && c.lineUntil.IsZero() {
		c.lineUntil = time.Now().Add(d)
	}
}

// awaitContent starts DataTimeout, unless it runs.
func (c *conn) awaitContent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.limits.DataTimeout; d > 0 && c.mu.until.IsZero() {
		c.mu.until = time.Now().Add(d)
	}
}

// drain ends the connection as soon as it is in no transaction.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.drained = true
	if !c.mu.busy {
		c.raw.SetReadDeadline(never) // wakes a read; arm refuses the next
	}
}
