package smtpserver

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A talk is a session as it is written in RFCs. Its lines are trimmed and begin
// with one of
//
//	C:  the client sends this line; lines without a reply between them go in one write
//	c:  the same without a line ending
//	S:  the server sends one reply that begins with this regular expression
//	+:  the same reply matches this one too, somewhere
//	-:  and does not match this one
//	T:  the client negotiates TLS
//	X:  the client closes the connection
//	F:  the spool is full
//	.:  the server has closed the connection
//	|:  what stands above goes in a write of its own
//
// where {CR}, {LF}, {NUL} and {300*x} in what the client sends stand for what
// they say. The greeting is not part of it.
type talk struct {
	name   string
	rule   string // where it stands: RFCs, with sections
	covers string // tests of go-smtp's server whose subject it is
	opts   Options
	tls    bool // Options.TLS has a certificate
	inject queue.Handler
	lines  string
	want   []letter // what is injected, in any order
}

// A letter is a message that is injected.
type letter struct {
	from, to string // recipients with a space between them
	body     string
	env      string // what else the envelope says, as envelopeText has it
}

// note is the content of most letters.
const note = "Subject: a note\r\n\r\nText.\r\n"

// talkTables are all talks.
var talkTables = [][]talk{talksGreeting, talksEnvelope, talksContent, talksChunks, talksPipelining, talksTLSAndAuth, talksDSN, talksLMTP}

var deferredMode = Options{DeferredQueue: true}

func TestTalks(t *testing.T) {
	cert, pool := certificate(t)
	for _, table := range talkTables {
		for _, row := range table {
			t.Run(row.name, func(t *testing.T) { row.run(t, cert, pool) })
		}
	}
}

// run plays the talk to a Listener of its own.
func (row talk) run(t *testing.T, cert tls.Certificate, pool *x509.CertPool) {
	if row.tls {
		row.opts.TLS.Config = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	h := serve(t, &row.opts)
	h.setInject(row.inject)
	p := &talker{t: t, h: h, client: h.dial(), tls: &tls.Config{RootCAs: pool, ServerName: "mx.example.com"}}
	p.want("220 mx.example.com ")
	p.play(row.lines)
	h.injectedOnly(t, row.want)
}

// A talker plays the client of a talk.
type talker struct {
	*client
	t     *testing.T
	h     *host
	tls   *tls.Config
	write strings.Builder // not sent yet
	reply string          // the last one
}

func (p *talker) play(lines string) {
	p.client.t = p.t
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		step, arg, ok := strings.Cut(line, ":")
		if !ok {
			p.t.Fatalf("%q is no line of a talk", line)
		}
		p.step(step, strings.TrimPrefix(arg, " "))
	}
	p.flush()
}

func (p *talker) step(step, arg string) {
	p.t.Helper()
	switch step {
	case "C", "c":
		p.write.WriteString(spelledOut(arg))
		if step == "C" {
			p.write.WriteString("\r\n")
		}
		return
	}
	p.flush()
	switch step {
	case "S":
		p.awaitReply(arg)
	case "+", "-":
		if regexp.MustCompile(arg).MatchString(p.reply) != (step == "+") {
			p.t.Errorf("reply %q, want %s: %s", p.reply, step, arg)
		}
	case "T":
		tc := tls.Client(p.conn, p.tls)
		if err := tc.Handshake(); err != nil {
			p.t.Fatal(err)
		}
		p.client = newClient(p.t, tc)
	case "X":
		p.conn.Close()
	case "F":
		p.h.sp.SetFull(true)
	case ".":
		p.ended()
	case "|": // is flushed
	default:
		p.t.Fatalf("%q is no step of a talk", step)
	}
}

func (p *talker) flush() {
	p.t.Helper()
	if p.write.Len() > 0 {
		p.send(p.write.String())
		p.write.Reset()
	}
}

func (p *talker) awaitReply(pattern string) {
	p.t.Helper()
	got, err := p.client.reply()
	if err != nil || !regexp.MustCompile("^(?:"+pattern+")").MatchString(got) {
		p.t.Fatalf("reply %q, %v; want %s", got, err, pattern)
	}
	p.reply = got
}

var (
	spelled  = strings.NewReplacer("{CR}", "\r", "{LF}", "\n", "{NUL}", "\x00")
	repeated = regexp.MustCompile(`\{(\d+)\*(.)\}`)
)

func spelledOut(s string) string {
	s = repeated.ReplaceAllStringFunc(s, func(m string) string {
		var n int
		var c rune
		fmt.Sscanf(m, "{%d*%c}", &n, &c)
		return strings.Repeat(string(c), n)
	})
	return spelled.Replace(s)
}

// injectedOnly fails unless exactly these letters are injected.
func (h *host) injectedOnly(t *testing.T, want []letter) {
	t.Helper()
	var got []letter
	for range want {
		m := h.next()
		rcpts := addresses(m.env)
		got = append(got, letter{m.env.Sender, strings.Join(rcpts, " "), m.body(), envelopeText(m)})
	}
	h.l.Close() // waits for what may have been committed
	h.stopScheduler()
	h.nothing()
	for _, w := range want {
		i := slices.Index(got, w)
		if i < 0 {
			t.Errorf("%+v was not injected, but %+v", w, got)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
}

// envelopeText is what an envelope says beside its addresses.
func envelopeText(m *injected) string {
	var words []string
	add := func(name, value string) {
		if value != "" {
			words = append(words, name+value)
		}
	}
	add("BODY=", m.env.Body)
	add("RET=", m.env.Ret)
	add("ENVID=", m.env.EnvID)
	if m.env.SMTPUTF8 {
		add("SMTPUTF8", " ")
	}
	if m.env.RequireTLS {
		add("REQUIRETLS", " ")
	}
	for _, r := range m.env.Recipients {
		add("NOTIFY=", strings.Join(r.Notify, ","))
		add("ORCPT=", r.ORcpt)
	}
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return strings.Join(words, " ")
}
