package dsn_test

import (
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A host that tells senders itself fills in a Report and writes it.
func ExampleReport_Write() {
	env := spool.Envelope{Sender: "ada@example.org", EnvID: "QQ314159"}
	r := &dsn.Report{
		Envelope:     env,
		ReportingMTA: "relay.example",
		Recipients: []dsn.Recipient{{
			Address: "bob@example.com", Status: [3]int{5, 1, 1}, Diagnostic: "550 5.1.1 no such user",
		}},
		Content: strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"),
		Date:    time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	var notice strings.Builder
	if err := r.Write(&notice); err != nil {
		log.Fatal(err)
	}
	fmt.Println("to", r.NoticeEnvelope().Recipients[0].Address)
	for line := range strings.Lines(notice.String()) {
		if strings.HasPrefix(line, "Subject:") || strings.HasPrefix(line, "Status:") || strings.HasPrefix(line, "Original-Envelope-Id:") {
			fmt.Println(strings.TrimSpace(line))
		}
	}
	// Output:
	// to ada@example.org
	// Subject: Undelivered mail: Hello
	// Original-Envelope-Id: QQ314159
	// Status: 5.1.1
	// Subject: Hello
}

func ExampleWanted() {
	env := spool.Envelope{Sender: "ada@example.org"}
	rcpt := spool.Recipient{Address: "bob@example.com", Notify: []string{"SUCCESS", "DELAY"}}
	for _, action := range []dsn.Action{dsn.Failed, dsn.Delayed, dsn.Relayed} {
		fmt.Println(action, dsn.Wanted(env, rcpt, action))
	}
	// Output:
	// failed false
	// delayed true
	// relayed true
}
