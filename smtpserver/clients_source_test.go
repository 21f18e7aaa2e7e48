package smtpserver

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

var sourceTools = []tool{{"smtp-source", "postfix"}}

// sourceClients load the Listener: 50 sessions, more than 2,000 messages.
var sourceClients = []outsideClient{
	source("smtp-source, 50 sessions, 1 KB", 50, 1000, 1, 1000),
	source("smtp-source, 50 sessions, 4 KB, 3 recipients", 50, 500, 3, 4000),
	source("smtp-source, 50 sessions, 100 KB", 50, 450, 1, 100_000),
	source("smtp-source, 50 sessions, 2 MB", 50, 50, 1, 2_000_000),
	source("smtp-source, a session per message", 10, 100, 1, 4000, "-d"),
	source("smtp-source, LMTP", 50, 200, 3, 4000, "-L"),
}

func source(name string, sessions, messages, rcpts, size int, more ...string) outsideClient {
	return outsideClient{
		name: name, tools: sourceTools, rcpts: messages * rcpts, lmtp: len(more) > 0 && more[0] == "-L",
		send: func(tg *target) error {
			return run("smtp-source", append(more, "-s", strconv.Itoa(sessions), "-m", strconv.Itoa(messages), "-r", strconv.Itoa(rcpts),
				"-l", strconv.Itoa(size), "-f", "sender@example.com", "-t", "rcpt@example.org", tg.addr)...)
		},
		check: func(t *testing.T, _ *target, got []*injected) { checkSource(t, got, messages, rcpts, size) },
	}
}

// checkSource checks what smtp-source makes: numbered lines of X behind a header
// with a Message-Id, once for each recipient.
func checkSource(t *testing.T, got []*injected, messages, rcpts, size int) {
	copies := map[string]int{}
	ids := map[spool.ID]bool{}
	for _, m := range got {
		body := m.body()
		header, text, ok := strings.Cut(body, "\r\n\r\n")
		if !ok || strings.Trim(text, "0123456789X\r\n") != "" || !strings.HasSuffix(text, "X\r\n") || len(body) < size*9/10 {
			t.Fatalf("%d octets %.200q ... %.40q", len(body), body, text[max(0, len(text)-40):])
		}
		_, id, ok := strings.Cut(header, "Message-Id:")
		if !ok {
			t.Fatalf("no Message-Id in %q", header)
		}
		copies[fmt.Sprint(id, m.env.Recipients[0].Address)]++
		ids[m.id] = true
	}
	if len(ids) != len(got) {
		t.Errorf("%d messages have %d IDs", len(got), len(ids))
	}
	if len(copies) != messages*rcpts {
		t.Errorf("%d pairs of message and recipient, want %d", len(copies), messages*rcpts)
	}
}
