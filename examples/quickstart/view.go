package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// The columns of the tables.
var (
	sendColumns    = []column{19, -8, -10, -9}
	eventColumns   = []column{-7, 19, 18, -3}
	summaryColumns = []column{19, 18, -9, -5, -9}
)

func (d *demo) headline() {
	p := d.out
	p.line("")
	p.line("%s", p.paint(bold, "deferredqueue quickstart"))
	p.line("%s", p.paint(faint, "Mail is answered 250 once it is safely on disk. The policy, slow as it may be, runs afterwards."))
	p.line("")
	p.line("  SMTP    %s", d.addr)
	p.line("  Spool   %s", d.options.spool)
	p.line("  Outbox  %s", d.outbox)
	p.line("")
}

func (d *demo) sendingHead(n int) {
	p := d.out
	p.line("%s", p.paint(bold, fmt.Sprintf("Sending %d messages", n)))
	p.line("")
	p.line("  %s", p.paint(faint, cells(sendColumns, "MESSAGE", "SIZE", "RECIPIENTS", "250 AFTER")))
}

func (d *demo) sendingLine(s sending) {
	d.out.line("  %s", cells(sendColumns, s.title, bytesText(len(s.content)),
		strconv.Itoa(len(s.to)), short(s.took)))
}

func (d *demo) sendingFoot(sent []sending) {
	p, n := d.out, 0
	for _, s := range sent {
		n += len(s.ids)
	}
	p.line("")
	p.line("All of it is on disk: %s, one for each recipient, and every body once. The sender is done.", plural(n, "message"))
	p.line("")
	p.line("%s", p.paint(bold, "Behind the 250"))
	p.line("%s", p.paint(faint, fmt.Sprintf("The policy takes %s for each message and fails at first, on purpose. Times count from a message's 250.", short(d.slow))))
	p.line("")
	p.line("  %s", p.paint(faint, cells(eventColumns, "AFTER", "MESSAGE", "FOR", "TRY")+"POLICY"))
}

// event shows one record.
func (p *printer) event(after time.Duration, m *progress, attempt int, o outcome) {
	number := ""
	if attempt > 0 {
		number = strconv.Itoa(attempt)
	}
	p.line("  %s%s", cells(eventColumns, short(after), m.title, printable(m.rcpt), number),
		p.paint(o.style, printable(o.text)))
}

// received shows a message that somebody sent by hand.
func (p *printer) received(r queue.Record) {
	p.line("  %s%s", cells(eventColumns, "", "from "+printable(r.Sender), printable(r.Recipients[0]), ""),
		fmt.Sprintf("250: %s on disk, ID %s", bytesText(int(r.Size)), r.ID))
}

// summary shows how each message ended.
func (d *demo) summary(resumed []waiting, sent []sending) {
	p := d.out
	p.line("")
	p.line("%s", p.paint(bold, "What became of them"))
	p.line("")
	p.line("  %s", p.paint(faint, cells(summaryColumns, "MESSAGE", "FOR", "250 AFTER", "TRIES", "END AFTER")+"OUTCOME"))
	for _, w := range resumed {
		d.summaryLine(w.id, w.title, "last run")
	}
	var slowest time.Duration
	for _, s := range sent {
		slowest = max(slowest, s.took)
		for i, id := range s.ids {
			if i == 0 {
				d.summaryLine(id, s.title, short(s.took))
			} else {
				d.summaryLine(id, "", "") // the same transaction, and the same 250
			}
		}
	}
	p.line("")
	p.line("The slowest 250 took %s. The policy takes %s.", short(slowest), short(d.slow))
	p.line("")
}

func (d *demo) summaryLine(id spool.ID, name, took string) {
	m := d.tracker.progress(id)
	d.out.line("  %s%s", cells(summaryColumns, name, printable(m.rcpt), took,
		strconv.Itoa(m.attempts), short(m.done)), d.out.paint(m.outcome.style, m.outcome.text))
}

// howToSend says how to send more, with programs that many machines have.
func (d *demo) howToSend() {
	d.tracker.goLive()
	p := d.out
	p.line("%s", p.paint(bold, "Still listening. Send one by hand, from another terminal:"))
	p.line("")
	p.line(`  printf 'Subject: By hand\r\n\r\nHello.\r\n' | curl -sS smtp://%s --mail-from me@example.com --mail-rcpt you@example.net -T -`, d.addr)
	p.line("")
	p.line(`  swaks --server %s --from me@example.com --to you@example.net --header 'Subject: By hand'`, d.addr)
	p.line("")
	p.line("Ctrl-C stops. Stop while a message waits, start again, and it is resumed.")
	p.line("")
	p.line("  %s", p.paint(faint, cells(eventColumns, "AFTER", "MESSAGE", "FOR", "TRY")+"POLICY"))
}
