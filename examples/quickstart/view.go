package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// The columns of the tables.
var (
	sendColumns    = []column{22, -8, -10, -9}
	eventColumns   = []column{-8, 22, 18, -7}
	summaryColumns = []column{22, 18, -9, -8, -9}
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
		strconv.Itoa(len(s.to)), round(s.took).String()))
}

func (d *demo) sendingFoot(sent []sending) {
	p, n := d.out, 0
	for _, s := range sent {
		n += len(s.ids)
	}
	p.line("")
	p.line("All of it is on disk now: %s, one for each recipient. The sender is done.", plural(n, "message"))
	p.line("")
	p.line("%s", p.paint(bold, "Behind the 250"))
	p.line("%s", p.paint(faint, fmt.Sprintf("The policy takes %v for each message and fails at first, on purpose.", d.slow)))
	p.line("")
	p.line("  %s", p.paint(faint, cells(eventColumns, "AFTER", "MESSAGE", "FOR", "ATTEMPT")+"POLICY"))
}

// event shows one record.
func (p *printer) event(after time.Duration, m *progress, attempt int, o outcome) {
	number := ""
	if attempt > 0 {
		number = strconv.Itoa(attempt)
	}
	p.line("  %s%s", cells(eventColumns, round(after).String(), m.title, printable(m.rcpt), number),
		p.paint(o.style, printable(o.text)))
}

// received shows a message that somebody sent by hand.
func (p *printer) received(r queue.Record) {
	p.line("  %s%s", cells(eventColumns, "0s", "from "+printable(r.Sender), printable(r.Recipients[0]), ""),
		fmt.Sprintf("250: %s on disk, ID %s", bytesText(int(r.Size)), r.ID))
}

func (d *demo) summary(sent []sending) {
	p := d.out
	p.line("")
	p.line("%s", p.paint(bold, "What became of them"))
	p.line("")
	p.line("  %s", p.paint(faint, cells(summaryColumns, "MESSAGE", "FOR", "250 AFTER", "ATTEMPTS", "END AFTER")+"OUTCOME"))
	var slowest time.Duration
	for _, s := range sent {
		slowest = max(slowest, s.took)
		for i, id := range s.ids {
			m := d.tracker.progress(id)
			name, took := m.title, round(s.took).String()
			if i > 0 {
				name, took = "", "" // the same transaction, and the same 250
			}
			p.line("  %s%s", cells(summaryColumns, name, printable(m.rcpt), took,
				strconv.Itoa(m.attempts), round(m.done).String()), p.paint(m.outcome.style, m.outcome.text))
		}
	}
	p.line("")
	p.line("The slowest 250 took %v. The policy takes %v.", round(slowest), d.slow)
	p.line("")
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
	p.line("  %s", p.paint(faint, cells(eventColumns, "AFTER", "MESSAGE", "FOR", "ATTEMPT")+"POLICY"))
}
