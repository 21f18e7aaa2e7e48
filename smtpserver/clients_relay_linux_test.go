package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A relayed message goes through Postfix to the Listener.
type relayed struct {
	id      string // of the Message-ID
	mail    gosmtp.MailOptions
	rcpt    gosmtp.RcptOptions
	sender  string // empty: none
	rcpts   []string
	content string
}

// relayedMessages are what Postfix may find in its queue.
func relayedMessages() []*relayed {
	text := "A line.\r\n"
	all := []*relayed{
		{id: "dots", content: ".\r\n..\r\n.dot\r\n\r\n.\r\n"},
		{id: "long-line", content: strings.Repeat("x", 998) + "\r\nlast\r\n"},
		{id: "8bit", content: "gr\u00fc\u00dfe\r\n", mail: gosmtp.MailOptions{Body: gosmtp.Body8BitMIME}},
		{id: "empty", content: ""},
		{id: "big", content: strings.Repeat(strings.Repeat(".", 76)+"\r\n", 12<<20/78)},
		{id: "bounce", sender: "<>", content: text},
		{id: "many", rcpts: recipients(60), content: text},
		{id: "utf8", sender: "gr\u00fc\u00dfe@example.com", rcpts: []string{"gr\u00fc\u00dfe@example.org"}, content: text, mail: gosmtp.MailOptions{UTF8: true}},
		{id: "dsn", content: text, mail: gosmtp.MailOptions{Return: gosmtp.DSNReturnHeaders, EnvelopeID: "QQ314159"},
			rcpt: gosmtp.RcptOptions{Notify: []gosmtp.DSNNotify{gosmtp.DSNNotifyFailure, gosmtp.DSNNotifyDelayed},
				OriginalRecipientType: gosmtp.DSNAddressTypeRFC822, OriginalRecipient: "alias@example.org"}},
		{id: "again", rcpts: []string{"again@example.org"}, content: text},
		{id: "later", rcpts: []string{"now@example.org", "later@example.org"}, content: text},
	}
	for i := range 100 {
		all = append(all, &relayed{id: fmt.Sprintf("small-%d", i), content: strings.Repeat(text, i*7)})
	}
	for _, m := range all {
		if m.sender == "" {
			m.sender = "sender@example.com"
		}
		m.sender = strings.Trim(m.sender, "<>")
		if m.rcpts == nil {
			m.rcpts = []string{"rcpt@example.org"}
		}
		m.content = fmt.Sprintf("From: sender@example.com\r\nTo: rcpt@example.org\r\nDate: %s\r\nMessage-ID: <%s@example.com>\r\n\r\n%s",
			time.Now().Format(time.RFC1123Z), m.id, m.content)
	}
	return all
}

func recipients(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%d@example.org", i)
	}
	return all
}

// TestClientsPostfix relays through a Postfix of the test's own. Without -long
// TestClients has to do.
func TestClientsPostfix(t *testing.T) {
	if !*long {
		t.Log("Postfix is checked with -long only")
		return
	}
	for _, s := range []security{inClear, byStartTLS, implicitTLS} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel() // Postfix waits more than it works
			relayThroughPostfix(t, s)
		})
	}
}

func relayThroughPostfix(t *testing.T, s security) {
	tg := newTarget(t, &outsideClient{security: s})
	opts := tg.options(t)
	busy := &refusals{}
	opts.Hooks.Rcpt, opts.Batch = busy.rcpt, busy.batch
	h := serve(t, opts)
	tg.setAddr(h.l.Addr())
	p := startPostfix(t, tg)

	all := relayedMessages()
	h.sp.SetFull(true) // for a while
	if err := p.submit(all[:4]); err != nil {
		t.Fatal(err)
	}
	if r := h.record(queue.Rejection); r.Response.Code != 452 {
		t.Errorf("with a full spool the listener answered %+v, want 452", r.Response)
	}
	h.sp.SetFull(false)
	if err := p.submit(all[4:]); err != nil {
		t.Fatal(err)
	}
	checkRelayed(t, tg, all, h)
	if later, again := busy.rcpts.Load(), busy.contents.Load(); later < 2 || again < 2 {
		t.Errorf("what was refused for now was tried again: recipient %d times, content %d times; want 2", later, again)
	}
	checkBounced(t, h, p)
	p.awaitEmpty(t)
	h.stopScheduler()
	h.nothing() // whatever Postfix sent twice
	if strings.Contains(h.logs.String(), replyIdle.text) {
		t.Errorf("a connection of Postfix was stuck until the timeout:\n%s", h.logs)
	}
}

// refusals refuses two recipients, and the content for another, for now, and one
// for good.
type refusals struct{ rcpts, contents atomic.Int32 }

func (r *refusals) rcpt(_ context.Context, _ *Session, rcpt *spool.Recipient) error {
	switch rcpt.Address {
	case "later@example.org":
		if r.rcpts.Add(1) == 1 {
			return queue.Reject(451, "4.7.1 greylisted")
		}
	case "never@example.org":
		return queue.Reject(550, "5.1.1 no such user")
	}
	return nil
}

// batch leaves out everybody at first, which is answered 451.
func (r *refusals) batch(env spool.Envelope) [][]spool.Recipient {
	if env.Recipients[0].Address == "again@example.org" && r.contents.Add(1) == 1 {
		return nil
	}
	return queue.PerRecipient(env)
}

// submit gives Postfix the messages on a few connections.
func (p *postfix) submit(all []*relayed) error {
	const connections = 5
	var wg sync.WaitGroup
	errs := make([]error, connections)
	for i := range errs {
		wg.Go(func() { errs[i] = p.submitSome(all, i, connections) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// submitSome gives Postfix every step-th message.
func (p *postfix) submitSome(all []*relayed, first, step int) error {
	c, err := gosmtp.Dial(p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := first; i < len(all); i += step {
		m := all[i]
		if err := c.Mail(m.sender, &m.mail); err != nil {
			return fmt.Errorf("%s: %w", m.id, err)
		}
		for _, to := range m.rcpts {
			if err := c.Rcpt(to, &m.rcpt); err != nil {
				return fmt.Errorf("%s: %w", m.id, err)
			}
		}
		w, err := c.Data()
		if err != nil {
			return fmt.Errorf("%s: %w", m.id, err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("%s: %w", m.id, err)
		}
	}
	return c.Quit()
}

// checkRelayed waits for every message, once for each recipient.
func checkRelayed(t *testing.T, tg *target, all []*relayed, h *host) {
	t.Helper()
	expected := make(map[string]*relayed)
	for _, m := range all {
		for _, to := range m.rcpts {
			expected[m.id+" "+to] = m
		}
	}
	for n := len(expected); n > 0; n-- {
		got := nextRelayed(t, h)
		_, id, _ := strings.Cut(got.content, "\r\nMessage-ID: <")
		id, _, _ = strings.Cut(id, "@")
		key := id + " " + got.env.Recipients[0].Address
		m := expected[key]
		if m == nil {
			t.Fatalf("message %q came twice, or was not sent: %.1000q", key, got.content)
		}
		delete(expected, key)
		m.compare(t, tg, got)
	}
}

// nextRelayed is [host.next] with more patience.
func nextRelayed(t *testing.T, h *host) *injected {
	t.Helper()
	select {
	case m := <-h.got:
		return m
	case <-time.After(postfixPatience):
		t.Fatal("Postfix relayed no message")
		return nil
	}
}

// compare checks one message and its envelope.
func (m *relayed) compare(t *testing.T, tg *target, got *injected) {
	t.Helper()
	body := got.body()
	if !strings.HasSuffix(body, m.content) || !strings.HasPrefix(body, "Received: from ") || strings.Count(body, "Received: ") != 1 {
		t.Errorf("%s: content %.1000q, want %.1000q behind the field of Postfix", m.id, body, m.content)
	}
	env := got.env
	if env.Sender != m.sender || env.SMTPUTF8 != m.mail.UTF8 || env.Ret != string(m.mail.Return) || env.EnvID != m.mail.EnvelopeID ||
		m.mail.Body != "" && env.Body != string(m.mail.Body) {
		t.Errorf("%s: envelope %+v", m.id, env)
	}
	if rcpt := env.Recipients[0]; m.rcpt.Notify != nil && (len(rcpt.Notify) != len(m.rcpt.Notify) || !strings.EqualFold(rcpt.ORcpt, "rfc822;"+m.rcpt.OriginalRecipient)) {
		t.Errorf("%s: recipient %+v", m.id, rcpt)
	}
	if got.meta["ehlo_domain"] != "relay.example.com" {
		t.Errorf("%s: metadata %v", m.id, got.meta)
	}
	checkSession(t, tg, got)
}

// checkBounced has Postfix bounce a message: it relays its notice too.
func checkBounced(t *testing.T, h *host, p *postfix) {
	t.Helper()
	m := &relayed{sender: "sender@example.com", rcpts: []string{"never@example.org"}, content: "Subject: x\r\n\r\nA line.\r\n"}
	if err := p.submit([]*relayed{m}); err != nil {
		t.Fatal(err)
	}
	got := nextRelayed(t, h)
	if got.env.Sender != "" || got.env.Recipients[0].Address != "sender@example.com" || !strings.Contains(got.content, "550 5.1.1 no such user") {
		t.Errorf("envelope %+v, content %q; want the notice of Postfix", got.env, got.content)
	}
}
