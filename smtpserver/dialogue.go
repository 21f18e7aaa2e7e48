package smtpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A dialogue is what a conn remembers of commands and replies between Reads. It
// belongs to the goroutine of the connection.
type dialogue struct {
	refused  *reply // instead of a greeting
	verb     string // of the command that is being executed
	command  string // the same as records show it
	sasl     bool   // the next line answers a 334
	moreData bool   // the command is a BDAT that is not the last
	counted  bool   // among errors
	errors   int
}

// start opens the session in place of go-smtp's greeting.
func (c *conn) start() {
	defer c.contain("connect")
	c.d.verb, c.d.command = "", "connect"
	switch err := c.open(); {
	case errors.Is(err, errHandshake): // there is nobody to talk to
		c.fail()
		return
	case err != nil:
		r := *toReply(err)
		r.close = true
		c.answer(&r)
		return
	}
	c.send([]byte("220 " + c.l.opts.Hostname + " " + c.l.opts.Banner + "\r\n"))
}

// open does what comes before the greeting.
func (c *conn) open() error {
	if t := c.l.opts.TLS; t.Implicit {
		if c.d.refused != nil {
			return errHandshake // it would cost what the limit is to save
		}
		if err := c.handshake(); err != nil {
			return err
		}
	}
	if c.d.refused != nil {
		return c.d.refused
	}
	if err := c.l.gate.connect(); err != nil {
		return connectReply(err)
	}
	return c.s.hook("Connect", c.l.opts.Hooks.Connect != nil, func(ctx context.Context) error {
		return c.l.opts.Hooks.Connect(ctx, c.s.pub)
	})
}

// contain turns a panic into the end of the connection, where go-smtp does not:
// it would end the process. Functions of the host run here too, such as those
// in a tls.Config.
func (c *conn) contain(where string) {
	if p := recover(); p != nil {
		c.s.logPanic(where, p)
		c.answer(replyPanic)
	}
}

// connectReply says that a connection is not taken: 421, whatever the reason.
func connectReply(err error) *reply {
	if errors.Is(err, errDraining) {
		return replyDraining
	}
	return &reply{code: 421, enhanced: toReply(err).enhanced, text: toReply(err).text, close: true}
}

// errHandshake says that TLS was not established.
var errHandshake = errors.New("smtpserver: TLS handshake failed")

// handshake puts TLS on the socket.
func (c *conn) handshake() (err error) {
	defer func() {
		if p := recover(); p != nil { // of a function in the tls.Config
			c.s.logPanic("TLS handshake", p)
			err = errHandshake
		}
	}()
	t := tls.Server(c.raw, c.l.opts.TLS.Config)
	ctx := c.ctx
	if d := c.l.opts.Limits.ClientTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
		c.raw.SetDeadline(time.Now().Add(d))
	}
	if err := t.HandshakeContext(ctx); err != nil {
		c.s.logger.LogAttrs(c.ctx, slog.LevelInfo, "smtp TLS handshake failed", slog.Any("error", err))
		return errHandshake
	}
	c.lower = t
	state := t.ConnectionState()
	c.s.pub.TLS = &state
	return nil
}

// knownCommands are those that go-smtp answers.
var knownCommands = map[string]bool{
	"HELO": true, "EHLO": true, "LHLO": true, "MAIL": true, "RCPT": true, "VRFY": true, "NOOP": true, "RSET": true,
	"QUIT": true, "AUTH": true, "DATA": true, "BDAT": true, "EXPN": true, "HELP": true,
	"STARTTLS": true,
}

// command looks at a command line before go-smtp does. It returns what go-smtp
// is to see of it: nothing if it was answered here.
func (c *conn) command(line []byte) (rest []byte) {
	defer c.contain("command")
	if c.d.sasl {
		c.d.sasl = false
		return line
	}
	text := strings.TrimRight(string(line), "\r\n")
	verb, arg, _ := strings.Cut(text, " ")
	verb, arg = strings.ToUpper(verb), strings.TrimSpace(arg)
	c.d.verb, c.d.command, c.d.moreData, c.d.counted = verb, commandForRecord(verb, text), false, false
	if r := c.precheck(verb, text); r != nil {
		c.answer(r)
		return nil
	}
	if !c.execute(verb, arg) {
		return nil
	}
	if arg == "" {
		return []byte(verb + "\r\n") // go-smtp does not allow spaces behind a bare command
	}
	return line
}

// execute does our part of a command, and reports whether go-smtp has to do its.
func (c *conn) execute(verb, arg string) bool {
	switch verb {
	case "STARTTLS":
		c.startTLS(arg)
		return false
	case "HELO", "EHLO", "LHLO":
		return c.allow(c.s.hello(verb, arg))
	case "DATA":
		if arg == "" {
			return c.allow(c.s.prepareData())
		}
	case "BDAT":
		return c.bdat(arg)
	}
	return true
}

// commandForRecord returns a command without what may be secret.
func commandForRecord(verb, text string) string {
	if verb == "AUTH" {
		return verb
	}
	return oneLine(text, maxReply)
}

// precheck refuses what no command may be.
func (c *conn) precheck(verb, text string) *reply {
	switch {
	case c.idleDrain():
		return replyDraining
	case strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0:
		return replyControl
	case !knownCommands[verb]:
		return replyUnknown
	}
	return nil
}

// allow answers a refusal; without one go-smtp goes on.
func (c *conn) allow(err error) bool {
	if err == nil {
		return true
	}
	c.answer(toReply(err))
	return false
}

// bdat reads the size of a chunk as go-smtp does. If that is not possible nobody
// knows where the next command begins, so that the connection ends.
func (c *conn) bdat(arg string) bool {
	args := strings.Fields(arg)
	size, last := uint64(0), len(args) == 2 && strings.EqualFold(args[1], "LAST")
	err := strconv.ErrSyntax
	if len(args) == 1 || last {
		size, err = strconv.ParseUint(args[0], 10, 32)
	}
	if err != nil {
		c.answer(replyChunk)
		return false
	}
	c.chunk, c.d.moreData = int64(size), !last
	c.awaitContent()
	c.s.expectChunks()
	return true
}

// startTLS carries STARTTLS out below go-smtp (RFC 3207), so that content and
// commands pass this conn in clear under TLS too. What was said before does
// not count any more.
func (c *conn) startTLS(arg string) {
	switch {
	case c.l.opts.TLS.Config == nil || c.l.opts.TLS.Implicit:
		c.answer(&reply{code: 502, enhanced: [3]int{5, 5, 1}, text: "STARTTLS is not available"})
	case c.s.pub.TLS != nil:
		c.answer(&reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "TLS is active already"})
	case arg != "":
		c.answer(&reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "STARTTLS has no arguments"})
	case c.s.current() != nil || c.s.pub.AuthnID != "":
		c.answer(&reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "STARTTLS must come before AUTH and MAIL"})
	case c.r.Buffered() > 0:
		// Commands injected in clear would be executed inside TLS (CVE-2011-0411).
		c.answer(&reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Nothing may be pipelined behind STARTTLS", close: true})
	default:
		c.send([]byte("220 2.0.0 Ready to start TLS\r\n"))
		if err := c.handshake(); err != nil {
			c.fail()
			return
		}
		c.s.pub.Hello = ""
	}
}

// answer writes a reply of our own.
func (c *conn) answer(r *reply) {
	c.passReply(r.line())
	if r.close {
		c.fail()
		c.write.Lock()
		c.write.cut = true
		c.write.Unlock()
	}
}

// passReply writes one line of a reply and draws the consequences.
func (c *conn) passReply(line []byte) error {
	code, final := replyCode(line)
	if code == 502 && sequenced[c.d.verb] { // go-smtp's 502 for RFC 5321's 503
		line = append([]byte("503"), line[3:]...)
		code = 503
	}
	if strings.HasSuffix(c.d.verb, "LO") && len(line) > 4 && bytes.HasPrefix(line[4:], []byte("Hello ")) {
		line = slices.Insert(slices.Clone(line), 4, []byte(c.l.opts.Hostname+" ")...) // RFC 5321, section 4.1.1.1
	}
	if c.offersTLS() && bytes.HasPrefix(line, []byte("250-CHUNKING")) {
		line = append([]byte("250-STARTTLS\r\n"), line...)
	}
	err := c.send(line)
	if final {
		c.replied(code, line)
	}
	return err
}

// sequenced are the commands that have their place.
var sequenced = map[string]bool{"MAIL": true, "RCPT": true, "DATA": true, "BDAT": true, "AUTH": true}

func (c *conn) offersTLS() bool {
	return c.l.opts.TLS.Config != nil && c.s.pub.TLS == nil && (c.d.verb == "EHLO" || c.d.verb == "LHLO")
}

// replyCode reads the code of a reply line, and whether it is the last line.
func replyCode(line []byte) (code int, final bool) {
	if len(line) < 4 {
		return 0, false
	}
	code, err := strconv.Atoi(string(line[:3]))
	return code, err == nil && line[3] == ' '
}

// replied is called behind every reply.
func (c *conn) replied(code int, line []byte) {
	switch {
	case code == 334:
		c.d.sasl = true
	case code == 250 && c.d.moreData:
		// go-smtp has started a goroutine for the content: it must have the right
		// transaction before a command can end that.
		c.s.awaitClaim()
	case code >= 400:
		c.refusedCommand(code, line)
	}
}

// refusedCommand records a refusal, and ends the session if there were too many.
func (c *conn) refusedCommand(code int, line []byte) {
	r := parseReply(code, line)
	c.s.logger.LogAttrs(c.ctx, slog.LevelInfo, "smtp command refused",
		slog.String("command", c.d.command), slog.Int("code", r.code), slog.String("text", r.text))
	c.s.recordRejection(r, c.d.command)
	if c.d.counted || code < 500 || code > 504 && code != 535 {
		return
	}
	c.d.counted = true // LMTP replies to each recipient
	c.d.errors++
	if limit := c.l.opts.Limits.Errors; limit > 0 && c.d.errors > limit && !c.broken.Load() {
		c.answer(replyErrors)
	}
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
