package smtpserver

import (
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
)

var wellFormedBdat = regexp.MustCompile(`^[0-9]+(\s+(?i:LAST))?$`)

// dotted takes the content of DATA (RFC 5321, sections 4.1.1.4 and 4.5.2).
func (m *sessionModel) dotted() (content string, ok bool) {
	rest := "\r\n" + m.sent[m.pos:]
	end := strings.Index(rest, "\r\n.\r\n")
	if end < 0 {
		m.unfinished()
		return "", false
	}
	m.pos += end + len(".\r\n")
	return strings.ReplaceAll(rest[:end+2], "\r\n.", "\r\n")[2:], true
}

func (m *sessionModel) bdat(arg string) {
	fields := strings.Fields(arg)
	size, err, bits := uint64(0), strconv.ErrSyntax, 62
	if m.conf.plain {
		bits = 32
	}
	if wellFormedBdat.MatchString(strings.Join(fields, " ")) {
		size, err = strconv.ParseUint(fields[0], 10, bits)
	}
	if err != nil {
		m.refused("BDAT", "its argument "+arg)
		return
	}
	if uint64(len(m.sent)-m.pos) < size {
		m.unfinished()
		return
	}
	chunk := m.sent[m.pos : m.pos+int(size)]
	m.pos += int(size)
	m.chunk(chunk, len(fields) == 2)
}

// chunk is a chunk that arrived as a whole (RFC 3030, section 2). Only the last
// is answered to each recipient under LMTP.
func (m *sessionModel) chunk(chunk string, last bool) {
	tx := m.tx
	if tx == nil || len(tx.rcpts) == 0 {
		m.refused("BDAT", "no recipients")
		return
	}
	tx.chunked = true
	tx.chunks += chunk
	if m.conf.plain && tx.unsettled { // go-smtp has ended the transaction
		m.refused("BDAT", "a refused chunk")
		return
	}
	if last {
		m.complete(tx.chunks)
		m.tx = nil
		return
	}
	v := m.verdict(tx.chunks, tx)
	r, ok := m.reply("BDAT")
	switch {
	case !ok:
	case r.code == 250 && tx.unsettled:
		m.fault("250 to a chunk behind one that was refused")
	case r.code == 250:
	case v.mayRefuse || m.full:
		tx.unsettled = true
	case r.code != 421:
		m.fault("%d %s to a chunk", r.code, r.text)
	}
}

// modelPath reads the path of MAIL or RCPT (RFC 5321, section 4.1.2), whose local
// part has quotes only if it needs them, and returns what follows.
func modelPath(s string) (addr, rest string, ok bool) {
	if s, ok = strings.CutPrefix(s, "<"); !ok {
		addr, rest, _ = strings.Cut(s, " ")
		return addr, rest, addr != "" && !strings.ContainsAny(addr, `"\<>()`)
	}
	if strings.HasPrefix(s, "@") {
		if _, s, ok = strings.Cut(s, ":"); !ok {
			return "", "", false
		}
	}
	var local strings.Builder
	if strings.HasPrefix(s, `"`) {
		for s = s[1:]; ; s = s[1:] {
			if s == "" {
				return "", "", false
			}
			if s[0] == '"' {
				break
			}
			if s[0] == '\\' && len(s) > 1 {
				s = s[1:]
			}
			local.WriteByte(s[0])
		}
		s = s[1:]
	}
	addr, rest, ok = strings.Cut(s, ">")
	if strings.ContainsAny(addr, "\"\\<() \t") {
		ok = false
	}
	name := local.String()
	if at := strings.LastIndexByte(addr, '@'); name == "" && at >= 0 {
		name, addr = addr[:at], addr[at:]
	}
	if name != "" && !modelAtoms.MatchString(name) {
		name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return name + addr, rest, ok
}

func (m *sessionModel) auth(arg string, r sessionReply) {
	words := strings.Fields(arg)
	var said []string
	if len(words) > 1 {
		said = words[1:]
	}
	for r.code == 334 {
		line, ok := m.line()
		if !ok {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		said = append(said, line)
		if r, ok = m.reply("AUTH response"); !ok {
			return
		}
		if line == "*" && r.code != 501 {
			m.fault("%d %s to a cancelled AUTH", r.code, r.text)
		}
	}
	good := len(words) > 0 && modelCredentials(strings.ToUpper(words[0]), said)
	if r.code != 235 {
		if r.code < 400 || good && !m.conf.wrapped && m.hello && !m.authenticated && m.tx == nil && r.code != 421 {
			m.fault("%d %s to AUTH %s, %q", r.code, r.text, arg, said)
		}
		return
	}
	if !good || m.authenticated || m.tx != nil && !m.tx.unsettled || !m.hello {
		m.fault("235 to AUTH %s, %q: authenticated %v, greeted %v, transaction %+v", arg, said, m.authenticated, m.hello, m.tx)
	}
	m.authenticated = true
}

// modelCredentials reports whether what the client said is right.
func modelCredentials(mechanism string, said []string) bool {
	var text []string
	for _, s := range said {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return false
		}
		text = append(text, string(b))
	}
	switch mechanism {
	case "PLAIN":
		return len(text) == 1 && strings.HasSuffix(text[0], "\x00user\x00secret")
	case "LOGIN":
		return strings.Join(text, "\x00") == "user\x00secret"
	}
	return false
}
