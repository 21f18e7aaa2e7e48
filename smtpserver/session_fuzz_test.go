package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// FuzzSession: whatever a client does, every reply is well-formed and in its
// place, what got 250 is injected once and as it was sent, nothing else is, and
// the session comes to an end. In virtual time.
func FuzzSession(f *testing.F) {
	for _, seed := range sessionSeeds {
		f.Add(seed.bits, []byte(seed.script))
	}
	var cert tls.Certificate
	var once sync.Once
	f.Fuzz(func(t *testing.T, bits uint16, data []byte) {
		once.Do(func() { cert, _ = certificate(t) })
		defer watchForHang()()
		conf := sessionConfOf(bits)
		synctest.Test(t, func(t *testing.T) { runSession(t, conf, newSessionHost(t, conf, cert), data) })
	})
}

// watchForHang ends the process after a while in real time, for no bubble notices
// a loop, unless what it returns is called.
func watchForHang() (stop func()) {
	t := time.AfterFunc(30*time.Second, func() {
		debug.SetTraceback("all")
		panic("the session does not end")
	})
	return func() { t.Stop() }
}

// runSession plays a script and judges what came of it.
func runSession(t *testing.T, conf sessionConf, h *sessionHost, data []byte) {
	ctx, stop := context.WithCancel(context.Background())
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- h.sched.Run(ctx) }()
	go func() { served <- h.serve(h.ln) }()
	synctest.Wait() // the Scheduler runs

	c := newSessionClient(t, h.ln.dial(), conf.secure)
	script := steps(data, conf.chop)
	if conf.plain {
		c.patience = time.Second
		script = append(script, step{then: 'w'}, step{then: '!'})
	}
	c.play(t, h, script)

	if err := h.close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	c.raw.Close()
	<-c.done
	h.sp.SetFull(false)
	time.Sleep(time.Hour) // for what was deferred
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, r := range c.rests {
		if !r.cut && (conf.deferred || !strings.Contains(r.sent, "slow")) { // else a callback may be at work
			c.judge(t, conf, r, true)
		}
	}
	m := c.judge(t, conf, restPoint{c.sent.String(), c.got.String(), c.cut}, false)
	h.check(t, m)
	if err := h.sp.Close(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("%+v\nclient: %q\nserver: %q", conf, c.sent.String(), c.got.String())
	}
}

// judge asks the model what it thinks of the session, or of its beginning.
func (c *sessionClient) judge(t *testing.T, conf sessionConf, r restPoint, open bool) *sessionModel {
	m := &sessionModel{conf: conf, sent: r.sent, cut: r.cut, full: c.full, open: open}
	m.replies = wellFormed(t, r.got, r.cut, conf.wrapped)
	m.judge()
	for _, fault := range m.faults {
		t.Errorf("behind %d octets: %s", len(r.sent), fault)
	}
	return m
}

// A sessionClient plays a script on one connection.
type sessionClient struct {
	raw  net.Conn
	conn net.Conn        // raw, or TLS on top of it
	sent strings.Builder // what the server took
	got  logBuffer       // the replies
	done chan struct{}   // closed when no more is read

	rests []restPoint // whenever the server had nothing more to do

	patience          time.Duration // with a server that asks the time
	paused, cut, full bool
}

// A restPoint is what client and server have said while the connection is open.
type restPoint struct {
	sent, got string
	cut       bool
}

func newSessionClient(t *testing.T, raw net.Conn, secure bool) *sessionClient {
	c := &sessionClient{raw: raw, conn: raw, done: make(chan struct{})}
	if secure {
		tc := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		c.conn = tc
	}
	go func() {
		defer close(c.done)
		io.Copy(&c.got, c.conn)
	}()
	return c
}

// play writes the steps and waits for the end of the session: an hour after its
// last word, a client has none.
func (c *sessionClient) play(t *testing.T, h *sessionHost, steps []step) {
	down := make(chan error, 1)
	shut := false
	for _, s := range steps {
		if !c.say(s.write) {
			break
		}
		switch s.then {
		case 'w':
			time.Sleep(c.patience)
			synctest.Wait()
			c.rests = append(c.rests, restPoint{c.sent.String(), c.got.String(), c.cut})
		case 's':
			time.Sleep(s.sleep)
		case 'f', 'F':
			c.full = c.full || s.then == 'f'
			h.sp.SetFull(s.then == 'f')
		case 'k':
			if c.cut = true; !shut {
				shut = true
				go func() { down <- h.shutdown(context.Background()) }()
			}
		case 'P':
			c.cut = true
			c.conn.SetReadDeadline(time.Unix(1, 0))
			<-c.done
			c.paused = true
		case '!':
			c.cut = true
			c.raw.Close()
		}
	}
	c.awaitEnd(t)
	if shut {
		<-down
	}
}

// say writes, and reports whether the connection is still open.
func (c *sessionClient) say(p []byte) bool {
	if len(p) == 0 {
		return true // a pipe would wait for a reader
	}
	n, err := c.conn.Write(p)
	c.sent.Write(p[:n])
	return err == nil
}

// awaitEnd fails if the connection is still open an hour later.
func (c *sessionClient) awaitEnd(t *testing.T) {
	const patience = time.Hour
	if !c.paused {
		select {
		case <-c.done:
		case <-time.After(patience):
			t.Error("the connection is still open")
		}
		return
	}
	time.Sleep(patience)
	if _, err := c.conn.Write([]byte("NOOP\r\n")); err == nil {
		t.Error("the connection of a client that reads nothing is still open")
	}
}

var replyLine = regexp.MustCompile(`^([2345][0-9][0-9])([ -])([ -~]*)\r\n$`)

// anyReplyLine is what go-smtp makes of what a client said.
var anyReplyLine = regexp.MustCompile(`(?s)^([2345][0-9][0-9])([ -])(.*)\r\n$`)

// enhancedCode is what RFC 2034 puts in front of the text.
var enhancedCode = regexp.MustCompile(`^([245])\.[0-9]{1,3}\.[0-9]{1,3} `)

// wellFormed reads replies, and fails if a line is not one (RFC 5321, section
// 4.2; RFC 2034, section 3). The last line need not be whole if the connection
// was cut. With anyText a line may have more octets, and all of them.
func wellFormed(t *testing.T, all string, cut, anyText bool) (replies []sessionReply) {
	lines := 0
	pattern := replyLine
	if anyText {
		pattern = anyReplyLine
	}
	for line := range strings.Lines(all) {
		sub := pattern.FindStringSubmatch(line)
		switch {
		case sub == nil && cut && !strings.HasSuffix(line, "\n"):
			return replies
		case sub == nil || len(line) > 512 && !anyText:
			t.Errorf("%d octets of reply %q", len(line), line)
			return replies
		}
		if lines++; sub[2] == "-" {
			continue
		}
		code, _ := strconv.Atoi(sub[1])
		enhanced := enhancedCode.FindStringSubmatch(sub[3] + " ")
		switch {
		case code == 220 || code/100 == 3 || code == 250 && (lines > 1 || enhanced == nil && strings.Contains(sub[3], "Hello")):
		case enhanced == nil || enhanced[1] != sub[1][:1]:
			t.Errorf("reply %q without its enhanced status code", line)
		}
		if anyText && strings.HasSuffix(sub[3], "Quiting now") {
			code = 421 // it is, but for the number
		}
		replies = append(replies, sessionReply{code: code, text: sub[3], lines: lines})
		lines = 0
	}
	return replies
}

// check compares what the handlers saw with what the model wants.
func (h *sessionHost) check(t *testing.T, m *sessionModel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held, err := h.held()
	if err != nil {
		t.Error(err)
	}
	m.name(h.mu.called)
	delivered := map[string]int{}
	for _, msg := range h.mu.delivered {
		delivered[msg.id]++
		if m.want[msg.id] == nil && !(m.cut && slices.ContainsFunc(m.unseen, msg.may)) {
			t.Errorf("message %s to %v was injected without a 250: %q", msg.id, addresses(msg.env), msg.content)
		}
	}
	for _, msg := range h.mu.called {
		switch want := m.want[msg.id]; {
		case want != nil && !msg.is(want):
			t.Errorf("message %s is from %q to %v, %q; want %+v", msg.id, msg.env.Sender, addresses(msg.env), msg.content, want)
		case want == nil && !(m.cut && slices.ContainsFunc(m.unseen, msg.may)) && !(!m.conf.deferred && slices.ContainsFunc(m.failed, msg.may)):
			t.Errorf("the callback saw message %s to %v, which was not complete: %q", msg.id, addresses(msg.env), msg.content)
		}
	}
	for id, want := range m.want {
		fate := verdictOf(want.rcpts, strings.Join(want.content, ""))
		h.checkFate(t, id, fate, delivered[id], held[id])
	}
}

// name finds the messages whose IDs were not in a reply.
func (m *sessionModel) name(called []hostMessage) {
	for _, want := range m.unnamed {
		i := slices.IndexFunc(called, func(msg hostMessage) bool { return m.want[msg.id] == nil && msg.is(want) })
		if i < 0 {
			m.want["of an ID that was cut"] = want
			continue
		}
		m.want[called[i].id] = want
	}
}

// checkFate looks at how the life of a message ended that got its 250.
func (h *sessionHost) checkFate(t *testing.T, id, verdict string, delivered int, held bool) {
	ended, want := h.mu.ended[id], []queue.RecordType(nil)
	wantDelivered, wantHeld := 0, false
	switch verdict {
	case "?":
		return
	case "reject":
		want = []queue.RecordType{queue.Bounce}
	case "drop":
		want = []queue.RecordType{queue.AdminBounce}
	case "hold":
		wantHeld = true
	default:
		wantDelivered = 1
	}
	if delivered != wantDelivered || held != wantHeld || !slices.Equal(ended, want) {
		t.Errorf("message %s, verdict %s: delivered %d times, held %v, ended by %v", id, verdict, delivered, held, ended)
	}
}

// is reports whether msg is the message that the model wants.
func (msg hostMessage) is(want *modelMessage) bool {
	rcpts := unquotedAddresses(msg.env)
	return msg.may(want) && (slices.Contains(want.rcpts, "?") || slices.Equal(rcpts, want.rcpts))
}

// may reports whether msg is want, or one of the messages for its recipients.
func (msg hostMessage) may(want *modelMessage) bool {
	if !want.anySender && unquoted(msg.env.Sender) != want.sender {
		return false
	}
	for _, r := range unquotedAddresses(msg.env) {
		if !slices.Contains(want.rcpts, r) && !slices.Contains(want.rcpts, "?") {
			return false
		}
	}
	return slices.ContainsFunc(want.content, func(content string) bool {
		head, ok := strings.CutSuffix(msg.content, content)
		return ok && traceFields.MatchString(head) && strings.Contains(head, " id "+msg.id)
	})
}

// unquoted is an address as the model has it.
func unquoted(addr string) string {
	if addr, _, ok := modelPath("<" + addr + ">"); ok {
		return addr
	}
	return addr
}

func unquotedAddresses(env spool.Envelope) []string {
	list := addresses(env)
	for i := range list {
		list[i] = unquoted(list[i])
	}
	return list
}

// traceFields is what stands above the content.
var traceFields = regexp.MustCompile(`^X-KumoRef: [A-Za-z0-9+/=]+(\r\n\t[A-Za-z0-9+/=]+)*\r\nReceived: from [^\r\n ]+` +
	`\r\n\tby mx\.example\.com with (SMTP|ESMTPS?A?|LMTPS?A?) id [0-9a-f]{32}(\r\n\tfor <[^\r\n]+>)?;\r\n\t[^\r\n]+ \+0000\r\n$`)
