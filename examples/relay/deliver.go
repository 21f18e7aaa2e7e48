package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/dsn"
)

// A delivery is the handler of all queues.
type delivery struct {
	pool     *pool
	hostname string
	logger   *slog.Logger
}

// deliver hands a message to the smart host. What that says of each recipient is the
// verdict; everything else that goes wrong is tried again.
func (d *delivery) deliver(ctx context.Context, m *queue.Message) error {
	c, results, err := d.tryIdle(ctx, m)
	if err != nil {
		return err
	}
	if !c.dsn {
		if err := d.tellRelayed(ctx, m, results); err != nil { // the message is there: it is not sent again for that
			d.logger.Warn("a notice of success could not be made", "id", m.ID, "error", err)
		}
	}
	if len(results) == 1 {
		return results[0]
	}
	return queue.Split(results)
}

// tryIdle sends m over the first connection that works. One that was closed while it was
// idle costs no attempt: at the latest a new one says what is wrong.
func (d *delivery) tryIdle(ctx context.Context, m *queue.Message) (c *conn, results []error, err error) {
	for {
		c, used, err := d.pool.get(ctx)
		if err != nil {
			return nil, nil, err
		}
		results, err := d.send(ctx, c, m)
		if !used || !errors.Is(err, errNotBegun) {
			return c, results, err
		}
	}
}

// errNotBegun says that a connection was gone before it took anything of a message.
var errNotBegun = errors.New("the connection was closed by the other side")

// send makes one transaction, and gives the connection back if it is of further use.
// results are the verdicts for the recipients; err says why there are none.
func (d *delivery) send(ctx context.Context, c *conn, m *queue.Message) (results []error, err error) {
	stop := context.AfterFunc(ctx, func() { c.net.Close() }) // go-smtp knows no contexts
	defer func() {
		if stop(); err != nil || ctx.Err() != nil {
			d.pool.drop(c)
			return
		}
		d.pool.put(c)
	}()
	if err := fits(c, m); err != nil {
		return all(m, err), nil
	}
	if err := c.Mail(m.Envelope.Sender, mailOptions(m)); err != nil {
		if !isReply(err) || isClosing(err) {
			return nil, fmt.Errorf("%w: %w", errNotBegun, err)
		}
		c.reset()
		return all(m, queue.FromSMTP(err)), nil
	}
	results = make([]error, len(m.Envelope.Recipients))
	accepted := 0
	for i, rcpt := range m.Envelope.Recipients {
		err := c.Rcpt(rcpt.Address, rcptOptions(rcpt))
		switch {
		case err == nil:
			accepted++
		case !isReply(err) || isClosing(err):
			return nil, err
		default:
			results[i] = queue.FromSMTP(err)
		}
	}
	if accepted == 0 {
		c.reset()
		return results, nil
	}
	verdict, err := content(c, m)
	for i := range results {
		if results[i] == nil {
			results[i] = verdict
		}
	}
	return results, err
}

// content sends the content, and returns the verdict on it. When the connection ends
// behind the last dot nobody knows whether it was taken: it is sent again, and may
// arrive twice.
func content(c *conn, m *queue.Message) (verdict, err error) {
	w, err := c.Data()
	if err != nil {
		if isReply(err) && !isClosing(err) {
			c.reset()
			return queue.FromSMTP(err), nil
		}
		return nil, err
	}
	body, err := m.Open()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, body); err != nil {
		return nil, err // the connection is closed without the dot: nothing is taken
	}
	switch err := w.Close(); {
	case err == nil:
		return nil, nil
	case isReply(err) && !isClosing(err):
		return queue.FromSMTP(err), nil
	default:
		return nil, err
	}
}

func all(m *queue.Message, verdict error) []error {
	results := make([]error, len(m.Envelope.Recipients))
	for i := range results {
		results[i] = verdict
	}
	return results
}

func isReply(err error) bool {
	_, ok := errors.AsType[*smtp.SMTPError](err)
	return ok
}

// isClosing reports whether the other side ends the connection with its reply (RFC
// 5321, section 3.8).
func isClosing(err error) bool {
	reply, ok := errors.AsType[*smtp.SMTPError](err)
	return ok && reply.Code == 421
}

// tellRelayed sends the notices that were asked for about what a smart host has taken
// that sends none itself (RFC 3461, section 5.2.2).
func (d *delivery) tellRelayed(ctx context.Context, m *queue.Message, results []error) error {
	r, err := m.Report(dsn.Relayed)
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for i, rcpt := range m.Envelope.Recipients {
		taken[rcpt.Address] = results[i] == nil
	}
	var told []dsn.Recipient
	for _, rcpt := range r.Recipients {
		if taken[rcpt.Address] {
			told = append(told, rcpt)
		}
	}
	if len(told) == 0 {
		return nil
	}
	r.Recipients, r.ReportingMTA = told, d.hostname
	var notice strings.Builder
	if err := r.Write(&notice); err != nil {
		return err
	}
	_, err = m.Emit(ctx, r.NoticeEnvelope(), map[string]string{queue.MetaNotice: string(dsn.Relayed), queue.MetaNoticeFor: m.ID.String()}, strings.NewReader(notice.String()))
	return err
}
