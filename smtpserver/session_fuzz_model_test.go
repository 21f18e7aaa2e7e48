package smtpserver

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A sessionModel reads what a client sent and what it was answered, and says
// where the answers break the rules of RFC 5321 and of this package. It is
// written to be obvious: it holds whole streams as strings, and knows nothing of
// how a Listener works. It follows the replies where the server may choose, and
// insists where it may not.
type sessionModel struct {
	conf    sessionConf
	sent    string
	replies []sessionReply
	cut     bool // the client, or Shutdown, ended the connection
	full    bool // the spool was full at times
	open    bool // the connection is: the server waits for more

	pos  int // in sent
	over bool

	hello, authenticated bool
	errors               int  // Limits.Errors counts them
	counted              bool // the command is among them
	behind               bool // a MAIL or RCPT that was refused: what is pipelined then is no error
	tx                   *modelTransaction

	want    map[string]*modelMessage // what must be injected, by ID
	unnamed []*modelMessage          // what must be, but its ID did not fit into the reply
	unseen  []*modelMessage          // complete, but the reply was not seen
	failed  []*modelMessage          // complete, but refused
	faults  []string
}

// A sessionReply is one reply of one or more lines.
type sessionReply struct {
	code  int
	text  string // of the last line, behind the code
	lines int
}

// A modelTransaction is a transaction from MAIL on.
type modelTransaction struct {
	sender    string
	anySender bool     // not an address that the model can read
	rcpts     []string // "?" if the model cannot read it
	binary    bool
	utf8      bool
	chunked   bool // BDAT began
	chunks    string
	unsettled bool // a chunk was refused: RFC 3030, section 2, leaves open what that means for the rest
}

// A modelMessage is what a message must be.
type modelMessage struct {
	sender    string
	anySender bool
	rcpts     []string
	content   []string // the contents that it may have
}

// judge reads the session as a whole.
func (m *sessionModel) judge() {
	m.want = map[string]*modelMessage{}
	if r, ok := m.reply("the connection"); !ok || r.code != 220 {
		return
	}
	for !m.over && m.pos < len(m.sent) {
		m.command()
	}
	for !m.over {
		if len(m.replies) == 0 && (m.cut || m.open) {
			return
		}
		m.reply("") // what answers no command can only be the end
		if !m.over {
			m.fault("a reply that answers nothing")
			return
		}
	}
	for (m.conf.lmtp || m.conf.plain) && len(m.replies) > 0 && m.replies[0].code == 421 { // to each recipient, and by go-smtp
		m.replies = m.replies[1:]
	}
	if len(m.replies) > 0 && len(m.faults) == 0 {
		m.fault("%d replies behind the last", len(m.replies))
	}
}

func (m *sessionModel) fault(format string, v ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, v...))
	m.over = true
}

// farewell is the wording of replies behind which a server may close.
var farewell = regexp.MustCompile(`(?i)closing|pipelined behind STARTTLS`)

// reply takes the next reply. It is the last one if it says that the connection
// ends, or if there are no more; ok is false if there is none.
func (m *sessionModel) reply(to string) (r sessionReply, ok bool) {
	if len(m.replies) == 0 {
		m.over = true
		if !m.cut {
			m.fault("no reply to %q", to)
		}
		return r, false
	}
	r, m.replies = m.replies[0], m.replies[1:]
	switch {
	case r.code == 421:
		m.over = true
		m.checkFarewell(r, to)
	case r.code == 221:
		m.over = true
	case len(m.replies) == 0 && farewell.MatchString(r.text):
		m.over = true
	}
	if r.code == 221 && to != "QUIT" {
		m.fault("221 to %s", to)
	}
	excused := m.behind && r.code == 503 && slices.Contains([]string{"RCPT", "DATA", "BDAT"}, to)
	switch to {
	case "MAIL":
		m.behind = r.code >= 400
	case "RCPT":
		m.behind = m.behind || r.code >= 400
	case "RSET", "EHLO", "HELO", "LHLO":
		m.behind = m.behind && r.code >= 400
	}
	if !m.conf.wrapped && !m.counted && !excused && (r.code >= 500 && r.code <= 504 || r.code == 535) {
		m.counted = true
		if m.errors++; m.errors > m.conf.limits.Errors && !m.over {
			if last, ok := m.reply("too many errors"); ok && last.code != 421 {
				m.fault("%d %s behind %d errors", last.code, last.text, m.errors)
			}
		}
	}
	return r, true
}

// checkFarewell looks at a 421, which needs a reason.
func (m *sessionModel) checkFarewell(r sessionReply, to string) {
	switch text := r.text; {
	case m.cut, m.conf.plain, strings.HasSuffix(text, "Quiting now"): // the latter is go-smtp's
	case strings.HasPrefix(text, "4.4.2 "): // the client was silent
		if to != "" {
			m.fault("421 %s to %s", text, to)
		}
	case !strings.HasPrefix(text, "4.7.0 ") || to != "too many errors":
		m.fault("421 %s to %q", text, to)
	}
}

// line takes the next command line; ok is false if it did not arrive as a whole.
func (m *sessionModel) line() (line string, ok bool) {
	n := strings.IndexByte(m.sent[m.pos:], '\n')
	if n < 0 {
		return m.unfinished()
	}
	line = m.sent[m.pos : m.pos+n+1]
	m.pos += n + 1
	return line, true
}

// unfinished is the end of what the client sent inside something.
func (m *sessionModel) unfinished() (string, bool) {
	m.pos = len(m.sent)
	if len(m.replies) == 0 {
		m.over = true
		if !m.cut && !m.open {
			m.fault("the connection ended without a word inside a command or the content")
		}
		return "", false
	}
	r, _ := m.reply("")
	if m.conf.plain && !m.over && r.code >= 500 { // go-smtp refuses a chunk before it has come
		return m.unfinished()
	}
	if !m.over || r.code < 400 {
		m.fault("%d %s to what was not complete", r.code, r.text)
	}
	return "", false
}

func (m *sessionModel) command() {
	m.counted = false
	line, ok := m.line()
	if !ok {
		return
	}
	text := strings.TrimRight(line, "\r\n")
	verb, arg, _ := strings.Cut(text, " ")
	verb, arg = strings.ToUpper(verb), strings.TrimSpace(arg)
	switch {
	case !m.conf.wrapped && strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0:
		m.refused(verb, "control characters")
		return
	case verb == "BDAT":
		m.bdat(arg)
		return
	}
	r, ok := m.reply(verb)
	if !ok || r.code == 421 {
		return
	}
	switch verb {
	case "EHLO", "HELO", "LHLO":
		m.greet(verb, arg, r)
	case "MAIL":
		m.mail(line, arg, r)
	case "RCPT":
		m.rcpt(line, arg, r)
	case "DATA":
		m.data(arg, r)
	case "AUTH":
		m.auth(arg, r)
	default:
		m.other(verb, arg, r)
	}
}

// refused expects a refusal.
func (m *sessionModel) refused(what, why string) {
	if r, ok := m.reply(what); ok && r.code < 400 {
		m.fault("%d %s to %s in spite of %s", r.code, r.text, what, why)
	}
}

func (m *sessionModel) greet(verb, arg string, r sessionReply) {
	if r.code != 250 {
		if (verb == "LHLO") == m.conf.lmtp && arg == "client.example" {
			m.fault("%d to %s %s", r.code, verb, arg)
		}
		return
	}
	if (verb == "LHLO") != m.conf.lmtp || arg == "" {
		m.fault("250 to %s %q", verb, arg)
	}
	m.hello, m.tx = true, nil
	if verb == "HELO" && r.lines != 1 {
		m.fault("%d lines to HELO", r.lines)
	}
}

// Commands that leave nothing to choose.
var (
	plainMail = regexp.MustCompile(`(?i)^MAIL FROM:<([a-z]{1,60}@[a-z]{1,60}(\.[a-z]{1,60})?)?>( SIZE=[0-9]{1,2})?\r\n$`)
	plainRcpt = regexp.MustCompile(`(?i)^RCPT TO:<[a-z0-9]{1,60}@[a-z]{1,60}(\.[a-z]{1,60})?>\r\n$`)
)

func (m *sessionModel) mail(line, arg string, r sessionReply) {
	needAuth := m.conf.authRequired && !m.authenticated
	switch {
	case r.code == 250 && (!m.hello || needAuth || m.tx != nil && !m.tx.unsettled):
		m.fault("250 to MAIL: greeted %v, authentication needed %v, transaction %+v", m.hello, needAuth, m.tx)
	case r.code == 250:
		sender, params, ok := modelPath(strings.TrimSpace(arg[min(len(arg), len("FROM:")):]))
		params = " " + strings.ToUpper(params) + " "
		m.tx = &modelTransaction{sender: sender, anySender: !ok,
			binary: strings.Contains(params, " BODY=BINARYMIME "), utf8: strings.Contains(params, " SMTPUTF8 ")}
		m.ascii(sender)
	case m.hello && !needAuth && m.tx == nil && !m.full && plainMail.MatchString(line):
		m.fault("%d %s to %q", r.code, r.text, line)
	case r.code < 400:
		m.fault("%d %s to MAIL", r.code, r.text)
	}
}

func (m *sessionModel) rcpt(line, arg string, r sessionReply) {
	limit := m.conf.limits.Recipients
	switch {
	case r.code == 250 && (m.tx == nil || m.tx.chunked || len(m.tx.rcpts) >= limit):
		m.fault("250 to RCPT: transaction %+v", m.tx)
	case r.code == 250:
		addr, _, ok := modelPath(strings.TrimSpace(arg[min(len(arg), len("TO:")):]))
		if !ok || addr == "" {
			addr = "?"
		}
		if strings.EqualFold(addr, "postmaster") && !m.conf.wrapped { // RFC 5321, section 4.5.1
			addr += "@mx.example.com"
		}
		if strings.EqualFold(addr, "postmaster") && !m.conf.wrapped {
			addr += "@mx.example.com"
		}
		m.tx.rcpts = append(m.tx.rcpts, addr)
		m.ascii(addr)
	case m.tx != nil && !m.tx.chunked && !m.tx.unsettled && len(m.tx.rcpts) < limit && plainRcpt.MatchString(line):
		m.fault("%d %s to %q", r.code, r.text, line)
	case m.tx != nil && !m.tx.chunked && !m.tx.unsettled && len(m.tx.rcpts) >= limit && plainRcpt.MatchString(line) && r.code != 452:
		m.fault("%d %s to recipient %d", r.code, r.text, len(m.tx.rcpts)+1)
	case r.code < 400:
		m.fault("%d %s to RCPT", r.code, r.text)
	}
}

// ascii looks at an address that was accepted (RFC 6531, section 3.5).
func (m *sessionModel) ascii(addr string) {
	if strings.IndexFunc(addr, func(c rune) bool { return c > 0x7f }) >= 0 && !m.tx.utf8 && !m.conf.wrapped {
		m.fault("%q was accepted without SMTPUTF8", addr)
	}
}

// modelAtoms is a local part that needs no quotes.
var modelAtoms = regexp.MustCompile(`^[^][ ()<>:;@\\,".]+(\.[^][ ()<>:;@\\,".]+)*$`)

func (m *sessionModel) data(arg string, r sessionReply) {
	ready := m.tx != nil && len(m.tx.rcpts) > 0 && !m.tx.chunked && (!m.tx.binary || m.conf.plain) && arg == ""
	switch {
	case r.code == 354 && (!ready || m.tx.unsettled):
		m.fault("354 to DATA %s: transaction %+v", arg, m.tx)
	case r.code == 354:
		content, ok := m.dotted()
		if ok {
			m.complete(content)
		}
		m.tx = nil
	case r.code < 400, ready && !m.full && !m.tx.unsettled && !m.tx.binary:
		m.fault("%d %s to DATA: transaction %+v", r.code, r.text, m.tx)
	}
}

func (m *sessionModel) other(verb, arg string, r sessionReply) {
	want := 0
	switch verb {
	case "RSET":
		want = 250
		if r.code == 250 {
			m.tx = nil
		}
	case "NOOP":
		want = 250
	case "QUIT":
		want = 221
	case "VRFY":
		want = 252
	case "HELP":
		if r.code == 214 || r.code == 502 {
			return
		}
	}
	if m.conf.wrapped || want != 0 && (r.code == want || arg != "" && r.code >= 500) {
		return
	}
	if r.code < 500 || want != 0 {
		m.fault("%d %s to %s %s", r.code, r.text, verb, arg)
	}
}
