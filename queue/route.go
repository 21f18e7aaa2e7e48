package queue

import (
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
)

// routingKeys are the metadata that name the next queue.
var routingKeys = [...]string{"queue", "tenant", "campaign", "routing_domain"}

// routed reports whether a callback set one of the routing keys.
func routed(before, after map[string]string) bool {
	for _, key := range routingKeys {
		if after[key] != "" && after[key] != before[key] {
			return true
		}
	}
	return false
}

// route returns the queue that a message is bound for: the metadata queue as
// it is, else campaign:tenant@domain!routing_domain from the metadata and the
// first recipient's domain. It is never empty.
func route(meta map[string]string, env spool.Envelope) string {
	if name := meta["queue"]; name != "" {
		return name
	}
	n := queueName{
		campaign: meta["campaign"],
		tenant:   meta["tenant"],
		routing:  strings.ToLower(meta["routing_domain"]),
	}
	if len(env.Recipients) > 0 {
		n.domain = domainOf(env.Recipients[0].Address)
	}
	return n.String()
}

// A queueName is the name of a queue in parts. Empty parts are absent.
type queueName struct {
	campaign, tenant, domain, routing string
}

// String returns the name: campaign:tenant@domain!routing. Absent parts are
// left out with their separators, but for two cases. The @ stays where only it
// tells a tenant or campaign from a domain: "campaign:@domain", "tenant@". And
// without any part the name is "@", because a queue has a name.
func (n queueName) String() string {
	var b strings.Builder
	if n.campaign != "" {
		escapePart(&b, n.campaign)
		b.WriteByte(':')
	}
	escapePart(&b, n.tenant)
	if n.campaign != "" || n.tenant != "" || n == (queueName{}) {
		b.WriteByte('@')
	}
	escapePart(&b, n.domain)
	if n.routing != "" {
		b.WriteByte('!')
		escapePart(&b, n.routing)
	}
	return b.String()
}

// lower returns n with its domains in lower case: they are compared without
// case, campaign and tenant are not.
func (n queueName) lower() queueName {
	n.domain, n.routing = strings.ToLower(n.domain), strings.ToLower(n.routing)
	return n
}

// parseQueueName takes a name apart. ok is false for what String never
// returns: names of the host's own making, and patterns.
func parseQueueName(name string) (n queueName, ok bool) {
	if strings.Contains(name, "*") {
		return queueName{}, false
	}
	texts, ok := splitName(name)
	if !ok {
		return queueName{}, false
	}
	for i, part := range n.parts() {
		if *part, ok = unescapePart(texts[i]); !ok {
			return queueName{}, false
		}
	}
	return n, true
}

// parts returns the parts in the order in which they stand in a name.
func (n *queueName) parts() [4]*string {
	return [4]*string{&n.campaign, &n.tenant, &n.domain, &n.routing}
}

// splitName cuts a name at its separators, escapes left in place: campaign,
// tenant, domain, routing domain. ok is false where a separator stands without
// the part that calls for it, or twice.
func splitName(name string) (parts [4]string, ok bool) {
	if name == "@" {
		return parts, true
	}
	rest, routing, hasRouting := strings.Cut(name, "!")
	local, domain, hasLocal := strings.Cut(rest, "@")
	if !hasLocal {
		local, domain = "", rest
	}
	campaign, tenant, hasCampaign := strings.Cut(local, ":")
	if !hasCampaign {
		campaign, tenant = "", local
	}
	parts = [4]string{campaign, tenant, domain, routing}
	if hasRouting && routing == "" || hasCampaign && campaign == "" || hasLocal && local == "" || name == "" {
		return parts, false
	}
	for _, part := range parts {
		if strings.ContainsAny(part, ":@!") {
			return parts, false
		}
	}
	return parts, true
}

// escaped are the bytes that a part must not hold as they are.
const escaped = ":@!%*"

// escapePart writes a part, percent-encoded where it must be.
func escapePart(b *strings.Builder, part string) {
	const digits = "0123456789ABCDEF"
	for {
		i := strings.IndexAny(part, escaped)
		if i < 0 {
			b.WriteString(part)
			return
		}
		b.WriteString(part[:i])
		b.WriteByte('%')
		b.WriteByte(digits[part[i]>>4])
		b.WriteByte(digits[part[i]&15])
		part = part[i+1:]
	}
}

// unescapePart undoes escapePart. ok is false for any escape but its own.
func unescapePart(s string) (part string, ok bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "%")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		if len(after) < 2 {
			return "", false
		}
		c, ok := unescapeByte(after[:2])
		if !ok {
			return "", false
		}
		b.WriteByte(c)
		s = after[2:]
	}
}

// unescapeByte returns the escaped byte whose two hexadecimal digits are given.
func unescapeByte(digits string) (byte, bool) {
	switch strings.ToUpper(digits) {
	case "3A":
		return ':', true
	case "40":
		return '@', true
	case "21":
		return '!', true
	case "25":
		return '%', true
	case "2A":
		return '*', true
	}
	return 0, false
}
