package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A sending is a letter that got its 250.
type sending struct {
	letter
	took time.Duration // from the end of the content to the 250
	ids  []spool.ID    // one message for each recipient
}

// sendAll sends the messages over one SMTP connection.
func (d *demo) sendAll(ctx context.Context) ([]sending, error) {
	letters, err := compose(time.Now())
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	c := smtp.NewClient(conn)
	defer c.Close()
	if err := c.Hello("quickstart.example"); err != nil {
		return nil, err
	}
	d.sendingHead(len(letters))
	var sent []sending
	for _, l := range letters {
		s, err := send(c, l)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", l.title, err)
		}
		for _, id := range s.ids {
			d.tracker.name(id, l.title)
		}
		d.sendingLine(s)
		sent = append(sent, s)
	}
	d.sendingFoot(sent)
	return sent, c.Quit()
}

func send(c *smtp.Client, l letter) (sending, error) {
	s := sending{letter: l}
	if err := c.Mail(l.from, &smtp.MailOptions{UTF8: !ascii(l.from)}); err != nil {
		return s, err
	}
	for _, to := range l.to {
		if err := c.Rcpt(to, nil); err != nil {
			return s, err
		}
	}
	w, err := c.Data()
	if err != nil {
		return s, err
	}
	if _, err := w.Write(l.content); err != nil {
		return s, err
	}
	begin := time.Now()
	resp, err := w.CloseWithResponse()
	s.took = time.Since(begin)
	if err != nil {
		return s, err
	}
	s.ids, err = replyIDs(resp.StatusText)
	return s, err
}

// replyIDs reads the IDs from the text of a 250: "OK ids=<id> <id>", without
// the brackets.
func replyIDs(text string) ([]spool.ID, error) {
	_, list, ok := strings.Cut(text, "ids=")
	if !ok {
		return nil, fmt.Errorf("the 250 names no message: %q", text)
	}
	var ids []spool.ID
	for word := range strings.FieldsSeq(list) {
		id, err := spool.ParseID(word)
		if err != nil {
			return nil, fmt.Errorf("the 250 says %q: %w", text, err)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("the 250 names no message: %q", text)
	}
	return ids, nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
