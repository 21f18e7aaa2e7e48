package smtpserver

import (
	"regexp"
	"slices"
	"strings"
)

// A contentVerdict is what must and may become of content, whatever the host
// says to it.
type contentVerdict struct {
	mustRefuse string // why
	mayRefuse  bool
	contents   []string // as which it may be injected
}

var (
	loneEnding    = regexp.MustCompile(`\r\n|\r|\n`)
	receivedField = regexp.MustCompile(`(?i)^received:`)
)

// verdict judges content: size, lines and hops, in a way that holds whole
// messages.
func (m *sessionModel) verdict(content string, tx *modelTransaction) contentVerdict {
	l := m.conf.limits
	v := contentVerdict{contents: []string{content}}
	if tx.unsettled {
		v.refuse("chunk before")
	}
	if int64(len(content)) > l.MessageSize {
		v.refuse("size")
	}
	if tx.binary { // has no lines
		v.mayRefuse = v.mayRefuse || strings.Contains(strings.ToLower(content), "received:")
		return v
	}
	lone := strings.ContainsAny(strings.ReplaceAll(content, "\r\n", ""), "\r\n")
	fixed := loneEnding.ReplaceAllString(content, "\r\n")
	switch {
	case lone && m.conf.endings == Deny:
		v.refuse("line endings")
	case lone && m.conf.endings == Fix:
		v.contents = []string{fixed}
		v.mayRefuse = int64(len(fixed)) > l.MessageSize
	}
	header := true
	hops, hopsFixed := 0, 0
	for _, line := range strings.Split(content, "\r\n") {
		if header = header && line != ""; header && receivedField.MatchString(line) {
			hops++
		}
		if len(line) > l.LineLength {
			if lone {
				v.mayRefuse = true // what a line is, is not said
			} else {
				v.refuse("line length")
			}
		}
	}
	head, _, _ := strings.Cut("\r\n"+fixed, "\r\n\r\n")
	hopsFixed = strings.Count(strings.ToLower(head), "\r\nreceived:")
	switch {
	case hops > l.Hops:
		v.refuse("hops")
	case hopsFixed > l.Hops:
		v.mayRefuse = true
	}
	return v
}

func (v *contentVerdict) refuse(why string) {
	if v.mustRefuse == "" {
		v.mustRefuse = why
	}
	v.mayRefuse = true
}

// complete is content that arrived as a whole: it takes the reply, or under
// LMTP the replies.
func (m *sessionModel) complete(content string) {
	tx, v := m.tx, m.verdict(content, m.tx)
	if len(m.replies) == 0 {
		if v.mustRefuse == "" {
			m.unseen = append(m.unseen, &modelMessage{tx.sender, tx.anySender, tx.rcpts, v.contents})
		}
		m.reply("the content")
		return
	}
	if m.conf.lmtp {
		m.completeLMTP(v, content)
		return
	}
	r, _ := m.reply("the content")
	whole := &modelMessage{tx.sender, tx.anySender, tx.rcpts, v.contents}
	if r.code != 250 {
		m.failed = append(m.failed, whole)
		m.mayFail(r, v, m.policies(tx.rcpts, content))
		return
	}
	if v.mustRefuse != "" {
		m.fault("250 in spite of %s", v.mustRefuse)
		return
	}
	groups := m.conf.batches(tx.rcpts)
	ids := idsOf(r.text)
	if slices.Contains(tx.rcpts, "?") {
		for _, id := range ids {
			m.expect(id, &modelMessage{tx.sender, tx.anySender, []string{"?"}, v.contents})
		}
		return
	}
	if strings.HasSuffix(r.text, " ...") && len(ids) > 10 && len(ids) < len(groups) {
		for _, group := range groups[len(ids):] {
			m.unnamed = append(m.unnamed, &modelMessage{tx.sender, tx.anySender, group, v.contents})
		}
		groups = groups[:len(ids)]
	}
	if len(ids) != len(groups) {
		m.fault("%d IDs for %d messages: %s", len(ids), len(groups), r.text)
		return
	}
	for i, id := range ids {
		m.expect(id, &modelMessage{tx.sender, tx.anySender, groups[i], v.contents})
	}
	m.mayPass(m.policies(tx.rcpts, content))
}

// completeLMTP is complete with a reply for each recipient (RFC 2033, section 4.2).
func (m *sessionModel) completeLMTP(v contentVerdict, content string) {
	tx := m.tx
	m.failed = append(m.failed, &modelMessage{tx.sender, tx.anySender, tx.rcpts, v.contents})
	for i, rcpt := range tx.rcpts {
		if len(m.replies) == 0 && i > 0 {
			m.unseen = append(m.unseen, &modelMessage{tx.sender, tx.anySender, tx.rcpts, v.contents})
		}
		if m.over {
			return
		}
		r, ok := m.reply("the content")
		if !ok {
			return
		}
		policies := m.policies(m.conf.batchOf(tx.rcpts, i), content)
		if r.code != 250 {
			policies["slow"] = m.policies(tx.rcpts, content)["slow"] // it takes the time of all
			m.mayFail(r, v, policies)
			continue
		}
		ids := idsOf(r.text)
		if v.mustRefuse != "" || len(ids) != 1 {
			m.fault("%s to recipient %s in spite of %q", r.text, rcpt, v.mustRefuse)
			return
		}
		m.expect(ids[0], &modelMessage{tx.sender, tx.anySender, []string{rcpt}, v.contents})
		m.mayPass(policies)
	}
}

func (m *sessionModel) expect(id string, msg *modelMessage) {
	if old := m.want[id]; old != nil && m.conf.lmtp {
		old.rcpts = append(old.rcpts, msg.rcpts...)
		return
	} else if old != nil {
		m.fault("ID %s twice", id)
	}
	m.want[id] = msg
}

var idList = regexp.MustCompile(`^2\.0\.0 (?:<.*> )?OK ids=([0-9a-f]{32}(?: [0-9a-f]{32})*)(?: \.\.\.)?$`)

func idsOf(text string) []string {
	if sub := idList.FindStringSubmatch(text); sub != nil {
		return strings.Split(sub[1], " ")
	}
	return nil
}

// policies are the host's verdicts on the messages for rcpts.
func (m *sessionModel) policies(rcpts []string, content string) map[string]bool {
	all := map[string]bool{}
	for _, group := range m.conf.batches(rcpts) {
		all[verdictOf(group, content)] = true
	}
	return all
}

// mayFail looks at a refusal of content: a 5xx wants a reason that lasts.
func (m *sessionModel) mayFail(r sessionReply, v contentVerdict, policies map[string]bool) {
	inline := !m.conf.deferred
	if inline && policies["?"] {
		return
	}
	permanent := v.mayRefuse || inline && policies["reject"]
	temporary := m.full || r.code == 421 || inline && (policies["temp"] || policies["slow"] || policies["panic"])
	switch {
	case r.code < 400:
		m.fault("%d %s to the content", r.code, r.text)
	case r.code >= 500 && !permanent:
		m.fault("%d %s without a reason that lasts", r.code, r.text)
	case r.code < 500 && v.mustRefuse != "" && !m.full && r.code != 421:
		m.fault("%d %s to content with a wrong %s", r.code, r.text, v.mustRefuse)
	case r.code < 500 && v.mustRefuse == "" && !temporary:
		m.fault("%d %s without a reason", r.code, r.text)
	case r.code < 500 && r.code != 421 && inline && policies["reject"] && !policies["slow"] && !m.full:
		m.fault("%d %s, but a callback rejected", r.code, r.text)
	}
}

// mayPass looks at a 250 without DeferredQueue, which says that every callback
// has accepted.
func (m *sessionModel) mayPass(policies map[string]bool) {
	for _, p := range []string{"reject", "temp", "slow", "panic"} {
		if !m.conf.deferred && policies[p] && !policies["?"] {
			m.fault("250, but the callback's verdict was %s", p)
		}
	}
}
