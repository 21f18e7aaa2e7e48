package smtpserver

import (
	"strconv"
	"strings"
)

// data carries DATA out: content comes from the buffer of the conn, answer takes
// the replies. It reports whether the transaction has ended.
func (c *conn) data(r *reception, answer func(*reply)) (ended bool) {
	tx, refused := r.contentReady("DATA")
	if refused != nil {
		answer(refused)
		return false
	}
	tx.work()
	if err := tx.open(true); err != nil {
		tx.rest()
		answer(r.explain(err))
		return false
	}
	answer(replyGoAhead)
	c.in.reserve(lineBuffer)
	err := c.readData(tx.content)
	c.conclude(tx, err, answer)
	return true
}

// conclude answers complete content, and ends its transaction.
func (c *conn) conclude(tx *transaction, err error, answer func(*reply)) {
	defer tx.r.finish()
	defer tx.rest()
	c.flush() // a client that is gone already is better noticed before the commit
	replies := tx.conclude(err)
	for i, reply := range replies {
		if tx.r.opts.LMTP && len(replies) == len(tx.env.Recipients) {
			reply = reply.to(tx.env.Recipients[i].Address)
		}
		answer(reply)
	}
	c.flush() // the hand-over must not delay the reply
}

// readData reads up to the end of the data.
func (c *conn) readData(body *content) error {
	for {
		n, end := body.take(c.in.window())
		c.in.skip(n)
		switch {
		case end:
			return nil
		case body.excess():
			return errExcess
		}
		if err := c.in.fill(contentBuffer); err != nil {
			return err
		}
	}
}

// bdat carries BDAT out (RFC 3030). If the size of the chunk cannot be read
// nobody knows where the next command begins, so that the connection ends.
func (c *conn) bdat(r *reception, arg string, answer func(*reply)) (ended bool) {
	size, last, ok := parseChunk(arg)
	if !ok {
		answer(replyChunk)
		return false
	}
	tx, refused := r.contentReady("BDAT")
	if refused != nil {
		if err := c.discard(size, r.opts.Limits.MessageSize); err != nil {
			c.readFailed(err)
			return false
		}
		answer(refused)
		return false
	}
	tx.work()
	if tx.content == nil {
		tx.openChunks()
	}
	switch err := c.readChunk(tx.content, size); {
	case err != nil || last:
		if err == nil {
			tx.content.finish(nil)
		}
		c.conclude(tx, err, answer)
		return true
	case tx.content.refusal != nil:
		answer(r.explain(tx.content.refusal)) // and at the last chunk again
	default:
		answer(replyContinue)
	}
	tx.rest()
	return false
}

// parseChunk reads the argument of BDAT.
func parseChunk(arg string) (size int64, last, ok bool) {
	args := strings.Fields(arg)
	last = len(args) == 2 && strings.EqualFold(args[1], "LAST")
	if len(args) != 1 && !last {
		return 0, false, false
	}
	n, err := strconv.ParseUint(args[0], 10, 62)
	return int64(n), last, err == nil
}

// readChunk reads one chunk.
func (c *conn) readChunk(body *content, size int64) error {
	for size > 0 {
		if len(c.in.window()) == 0 {
			if size > idleBuffer {
				c.in.reserve(lineBuffer)
			}
			if err := c.in.fill(contentBuffer); err != nil {
				return err
			}
		}
		p := c.in.window()
		p = p[:min(int64(len(p)), size)]
		n, _ := body.take(p)
		c.in.skip(n)
		size -= int64(n)
		if body.excess() {
			return errExcess
		}
	}
	return nil
}

// discard reads a chunk that is not taken.
func (c *conn) discard(size, limit int64) error {
	return c.readChunk(&content{refusal: replyNoMail, maxSize: limit}, size)
}
