package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

var queuedColumns = []column{19, 18, -10, -5, 10}

// waiting is a message that the last run left in the spool.
type waiting struct {
	id       spool.ID
	title    string
	rcpt     string
	accepted time.Time
	attempts int
	due      time.Time
}

// queued reads what is in the spool, before the scheduler takes it up.
func (d *demo) queued(ctx context.Context) ([]waiting, error) {
	var list []waiting
	for e, err := range d.spool.Scan(ctx, spool.Query{}) {
		if err != nil {
			return nil, fmt.Errorf("quickstart: reading the spool: %w", err)
		}
		m := queue.NewMessage(ctx, d.spool, e)
		h, err := m.Header()
		if err == nil {
			w := waiting{id: e.ID, title: title(h.Get("Subject")), accepted: e.Received, attempts: e.Attempts, due: e.Due}
			if len(e.Envelope.Recipients) > 0 {
				w.rcpt = e.Envelope.Recipients[0].Address
			}
			list = append(list, w)
		}
		m.Discard()
		if err != nil {
			return nil, fmt.Errorf("quickstart: reading the spool: %w", err)
		}
	}
	return list, nil
}

// showQueued says what is resumed.
func (d *demo) showQueued(list []waiting) {
	if len(list) == 0 {
		return
	}
	p, now := d.out, time.Now()
	p.line("%s", p.paint(bold, "Resuming "+plural(len(list), "message")+" from the last run"))
	p.line("")
	p.line("  %s", p.paint(faint, cells(queuedColumns, "MESSAGE", "FOR", "250 BEFORE", "TRIES", "DUE")))
	for _, w := range list {
		d.tracker.name(w.id, w.title)
		due := "now"
		if left := w.due.Sub(now); left > 0 {
			due = "in " + short(left)
		}
		p.line("  %s", cells(queuedColumns, w.title, printable(w.rcpt), short(now.Sub(w.accepted)),
			strconv.Itoa(w.attempts), due))
	}
	p.line("")
}

// stopping answers Ctrl-C, since what runs may take a moment to finish.
func (d *demo) stopping() {
	d.out.line("")
	d.out.line("Stopping. What runs may finish.")
}

// farewell says what stays queued. The scheduler has stopped by then.
func (d *demo) farewell() error {
	var left int64
	for info, err := range d.spool.Queues(context.Background()) {
		if err != nil {
			return errors.Join(errors.New("quickstart: counting what stays queued"), err)
		}
		left += info.Entries
	}
	if left == 0 {
		d.out.line("Stopped. Nothing is queued.")
		return nil
	}
	d.out.line("Stopped. Still queued in the spool: %s. Start again to resume.", plural(int(left), "message"))
	return nil
}
