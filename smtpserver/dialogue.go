package smtpserver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
)

// A dialogue is what a Listener says over a conn: it answers what go-smtp does
// not know or does wrong, and lets go-smtp do the rest.
type dialogue struct {
	c         *conn
	s         *session
	unproxied bool   // the client might have sent a PROXY header and did not
	refused   *reply // instead of a greeting
	welcomed  bool   // the greeting was said

	verb    string // of the command that is being executed
	line    []byte // the whole of it, for records
	sasl    bool   // the next line answers a 334
	silent  bool   // the reply to come is not the client's: we asked
	own     bool   // that reply has the code that it is to have
	counted bool   // among errors
	behind  bool   // a MAIL or RCPT that was refused, see excused
	several bool   // replies to this command may be still to come
	errors  int
}

// greet opens the session in place of go-smtp's greeting.
func (d *dialogue) greet([]byte) {
	defer d.contain("connect")
	d.verb, d.line = "connect", append(d.line[:0], "connect"...)
	switch err := d.open(); {
	case errors.Is(err, errSilent): // there is nobody to talk to
		d.c.fail()
		return
	case err != nil:
		r := *toReply(err)
		r.close = true
		d.answer(&r)
		return
	}
	d.welcome()
}

func (d *dialogue) welcome() {
	d.welcomed = true
	d.s.connected = maps.Clone(d.s.pub.Meta)
	d.c.say([]byte("220 " + d.s.opts.Hostname + " " + d.s.opts.Banner + "\r\n"))
}

// open does what comes before the greeting.
func (d *dialogue) open() error {
	err := d.proxied()
	implicit := d.s.opts.TLS.Implicit
	switch {
	case implicit && (err != nil || d.refused != nil):
		return errSilent // not in clear; and a handshake would cost what the limit is to save
	case err != nil:
		return err
	}
	if implicit {
		if err := d.handshake(); err != nil {
			return err
		}
	}
	if d.refused != nil {
		return d.refused
	}
	return d.admit()
}

// admit lets the client in, or says why not: at the beginning, and again when
// its address is claimed to be another.
func (d *dialogue) admit() error {
	if !d.c.tracker.count(d.c, d.s.pub.Remote.Addr(), d.s.opts.Limits.ConnectionsPerAddr) {
		return replyTooMany
	}
	if err := d.s.gate.connect(); err != nil {
		return connectReply(err)
	}
	return d.s.hook("Connect", d.s.opts.Hooks.Connect != nil, func(ctx context.Context) error {
		return d.s.opts.Hooks.Connect(ctx, d.s.pub)
	})
}

// connectReply says that a connection is not taken: 421, whatever the reason.
func connectReply(err error) *reply {
	if errors.Is(err, errDraining) {
		return replyDraining
	}
	r := *toReply(err)
	r.code, r.close = 421, true
	return &r
}

// contain turns a panic into the end of the connection, where go-smtp does not:
// it would end the process. Functions of the host run here too, such as those
// in a tls.Config.
func (d *dialogue) contain(where string) {
	if p := recover(); p != nil {
		d.s.logPanic(where, p)
		if tx := d.s.current(); tx != nil {
			tx.rest() // else nobody would discard its content
		}
		d.answer(replyPanic)
	}
}

// knownCommands are those that are answered, here or by go-smtp.
var knownCommands = map[string]bool{
	"HELO": true, "EHLO": true, "LHLO": true, "MAIL": true, "RCPT": true, "VRFY": true, "NOOP": true, "RSET": true,
	"QUIT": true, "AUTH": true, "DATA": true, "BDAT": true, "EXPN": true, "HELP": true,
	"STARTTLS": true, "XCLIENT": true,
}

func (d *dialogue) command(line []byte) (rest []byte) {
	defer d.contain("command")
	if d.sasl {
		d.sasl = false
		return line
	}
	text := bytes.TrimRight(line, "\r\n")
	d.line = append(d.line[:0], text...)
	d.counted, d.own = false, false
	word, arg, _ := bytes.Cut(text, []byte{' '})
	d.verb = verb(word)
	if r := d.precheck(text); r != nil {
		d.answer(r)
		return nil
	}
	arg = bytes.TrimSpace(arg)
	switch rest = d.execute(line, arg); {
	case rest == nil:
		return nil
	case len(arg) == 0 && !d.silent:
		return []byte(d.verb + "\r\n") // go-smtp does not allow spaces behind a bare command
	}
	return rest
}

// verb returns the command that word stands for, empty if there is none.
func verb(word []byte) string {
	var upper [8]byte
	if len(word) > len(upper) {
		return ""
	}
	for i, c := range word {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	if name := string(upper[:len(word)]); knownCommands[name] {
		return name
	}
	return ""
}

// precheck refuses what no command may be.
func (d *dialogue) precheck(text []byte) *reply {
	switch {
	case d.c.idleDrain():
		return replyDraining
	case foldPrefix(bytes.TrimLeft(text, " \t"), "BDAT") && (d.verb != "BDAT" || hasControl(text)):
		return replyChunk // the next line may be content
	case hasControl(text):
		return replyControl
	case d.verb == "" && d.unproxied && bytes.HasPrefix(text, []byte("PROXY ")):
		return replyProxyLate
	case d.verb == "":
		return replyUnknown
	}
	return nil
}

func hasControl(text []byte) bool {
	for _, c := range text {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// resetLine ends the transaction in go-smtp too, behind our own reply.
var resetLine = []byte("RSET\r\n")

// execute does our part of a command, and returns what go-smtp is to see.
func (d *dialogue) execute(line, arg []byte) []byte {
	switch d.verb {
	case "STARTTLS":
		d.startTLS(string(arg))
		return nil
	case "XCLIENT":
		d.xclient(string(arg))
		return nil
	case "HELO", "EHLO", "LHLO":
		if err := d.s.hello(d.verb, string(arg)); err != nil {
			d.answer(toReply(err))
			return nil
		}
	case "MAIL":
		if !soundPath(line) {
			d.answer(replySender)
			return nil
		}
		line, d.s.announced = shortenSize(line)
	case "RCPT":
		if !soundPath(line) {
			d.answer(replyRecipient)
			return nil
		}
		return rewritePostmaster(rewriteORcpt(line), d.s.opts.Hostname)
	case "DATA":
		if len(arg) == 0 {
			return d.content(func() bool { return d.c.data(d.s.reception, d.answer) })
		}
	case "BDAT":
		return d.content(func() bool { return d.c.bdat(d.s.reception, string(arg), d.answer) })
	}
	return line
}

// content is a command that brings content, and may have several replies.
func (d *dialogue) content(take func() (ended bool)) []byte {
	d.several = true
	ended := take()
	d.several = false
	d.limitErrors()
	return d.reset(ended)
}

// reset is what go-smtp is to see of a command that was carried out here.
func (d *dialogue) reset(ended bool) []byte {
	if !ended {
		return nil
	}
	d.silent = true
	return resetLine
}

// answer writes a reply of our own.
func (d *dialogue) answer(r *reply) {
	line := r.line()
	d.c.say(line)
	d.replied(r.code, line)
	if r.close {
		d.c.lastWord(d.welcomed)
	}
}

// reply passes a line of go-smtp's, or what takes its place.
func (d *dialogue) reply(line []byte) {
	code, final := replyCode(line)
	switch {
	case d.silent:
		d.silent = !final
		return
	case code == 250 && isHello(d.verb):
		if final {
			d.c.say(d.s.capabilities(d.verb))
			d.replied(code, line)
		}
		return
	case final:
		code, line = d.correct(code, line)
	}
	d.c.say(line)
	if final {
		d.replied(code, line)
	}
	if code == 421 { // RFC 5321, section 3.8; go-smtp would go on
		d.c.lastWord(d.welcomed)
	}
}

func isHello(verb string) bool { return verb == "EHLO" || verb == "LHLO" || verb == "HELO" }

// replyCode reads the code of a reply line, and whether it is the last line.
func replyCode(line []byte) (code int, final bool) {
	if len(line) < 4 {
		return 0, false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false
		}
		code = 10*code + int(c-'0')
	}
	return code, line[3] == ' '
}

// replied is called behind every reply.
func (d *dialogue) replied(code int, line []byte) {
	switch {
	case code == 334:
		d.sasl = true
	case code >= 400:
		d.refusedCommand(code, line)
	}
	switch d.verb {
	case "MAIL":
		d.behind = code >= 400
	case "RCPT":
		d.behind = d.behind || code >= 400
	case "RSET", "EHLO", "HELO", "LHLO":
		d.behind = d.behind && code >= 400
	}
}

// excused reports whether a refusal is no error of the client's: who pipelines
// could not know that MAIL or RCPT would be refused (RFC 2920, section 3.1).
func (d *dialogue) excused(code int) bool {
	return code == 503 && d.behind && (d.verb == "RCPT" || d.verb == "DATA" || d.verb == "BDAT")
}

// end says why reading ended, if there may be somebody to hear it.
func (d *dialogue) end(r *reply) {
	d.verb, d.line = "", d.line[:0] // what follows answers no command
	if r != nil {
		d.answer(r)
	}
}

// refusedCommand tells of a refusal, and ends the session if there were too many.
func (d *dialogue) refusedCommand(code int, line []byte) {
	d.s.refusedCommand(parseReply(code, line), commandForRecord(d.verb, d.line))
	if d.counted || code < 500 || code > 504 && code != 535 || d.excused(code) {
		return
	}
	d.counted = true // LMTP replies to each recipient
	d.errors++
	d.limitErrors()
}

// limitErrors ends the session if there were too many errors, behind the last
// reply to a command: under LMTP a refusal may stand before the 250 to another
// recipient.
func (d *dialogue) limitErrors() {
	if limit := d.s.opts.Limits.Errors; limit > 0 && d.errors > limit && !d.several && !d.c.lost() {
		d.answer(replyErrors)
	}
}

// commandForRecord returns a command without what may be secret: clients that do
// not wait for replies send credentials and content as commands, behind an AUTH or
// DATA that was refused.
func commandForRecord(verb string, line []byte) string {
	known := false
	switch verb {
	case "MAIL":
		known = pathOf(line, verb, "FROM:") != nil
	case "RCPT":
		known = pathOf(line, verb, "TO:") != nil
	case "HELO", "EHLO", "LHLO", "BDAT", "XCLIENT":
		known = true
	}
	switch {
	case len(line) == 0:
		return ""
	case known:
		return oneLine(string(line), maxReply)
	}
	return verb
}

// refusedCommand logs and records a refusal.
func (r *reception) refusedCommand(answer *reply, command string) {
	r.logger.LogAttrs(r.link.context(), slog.LevelInfo, "smtp command refused",
		slog.String("command", command), slog.Int("code", answer.code), slog.String("text", answer.text))
	r.recordRejection(answer, command)
}

// parseReply reads a reply line.
func parseReply(code int, line []byte) *reply {
	r := &reply{code: code}
	text := strings.TrimRight(string(line[4:]), "\r\n")
	first, rest, _ := strings.Cut(text, " ")
	if parts := strings.Split(first, "."); len(parts) == 3 {
		var n [3]int
		for i, p := range parts {
			v, err := strconv.Atoi(p)
			if err != nil {
				r.text = text
				return r
			}
			n[i] = v
		}
		r.enhanced, text = n, rest
	}
	r.text = text
	return r
}
