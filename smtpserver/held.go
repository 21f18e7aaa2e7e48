package smtpserver

import "time"

// flushSoon sees to it that the replies that wait are written in maxReplyDelay,
// also if the goroutine of the connection runs a function of the host's until
// then. stop must be called behind that; it waits for a write that has begun.
func (c *conn) flushSoon() (stop func()) {
	written := make(chan struct{})
	timer := time.AfterFunc(maxReplyDelay, func() {
		defer close(written)
		c.flush()
	})
	return func() {
		if !timer.Stop() {
			<-written
		}
	}
}
