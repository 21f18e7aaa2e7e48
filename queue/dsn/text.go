package dsn

import (
	"fmt"
	"strings"
	"time"
)

var subjects = map[Action]string{
	Failed:    "Undelivered mail",
	Delayed:   "Delayed mail (still being retried)",
	Delivered: "Delivered mail",
	Relayed:   "Relayed mail",
	Expanded:  "Delivered mail",
}

var openings = map[Action]string{
	Failed:    "Your message could not be delivered to:",
	Delayed:   "Your message has not been delivered yet. You need not send it again:\nit is tried further on. It waits for:",
	Delivered: "Your message was delivered to:",
	Relayed:   "Your message was passed on to a mail system that may not tell you\nwhether it arrives. It was meant for:",
	Expanded:  "Your message was delivered to a list, and goes on to its members:",
}

// humanText is what people read.
func (n *notice) humanText() string {
	if n.Text != "" {
		return strings.TrimRight(n.Text, "\r\n") + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail system at host %s.\n\n%s\n", clean(n.ReportingMTA, true), openings[n.action()])
	for i := range n.Recipients {
		rcpt := &n.Recipients[i]
		fmt.Fprintf(&b, "\n  <%s>\n", cleanAddress(rcpt.Address, true))
		if text := clean(rcpt.Diagnostic, true); text != "" {
			fmt.Fprintf(&b, "    %s\n", text)
		}
	}
	if until := n.Recipients[0].RetryUntil; n.action() == Delayed && !until.IsZero() {
		fmt.Fprintf(&b, "\nIt is given up on %s.\n", until.Format(time.RFC1123Z))
	}
	if n.returned != nil {
		what := "The header of your message is"
		if strings.HasSuffix(n.returned.mediaType, "/rfc822") || strings.HasSuffix(n.returned.mediaType, "/global") {
			what = "Your message is"
		}
		fmt.Fprintf(&b, "\n%s attached.\n", what)
	}
	return b.String()
}
