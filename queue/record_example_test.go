package queue_test

import (
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

func ExampleRecord_UnmarshalJSON() {
	const line = `{"type":"Bounce","recipient":"b@example.org","response":{"code":550,"content":"no such user"},"num_attempts":1}`

	var r queue.Record
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Type, r.Recipients, r.Response.Code, r.Response.Content)
	// Output: Bounce [b@example.org] 550 no such user
}

// The names are those of KumoMTA's records; what is not known is null.
func ExampleRecord_MarshalJSON() {
	r := queue.Record{
		Type: queue.Rejection, Time: time.Unix(1795500000, 0),
		Sender: "ada@example.org", Recipients: []string{"nobody@example.com"},
		Response: queue.Response{Code: 550, Content: "nobody here", Command: "RCPT"},
	}
	text, err := json.Marshal(r)
	if err != nil {
		log.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		log.Fatal(err)
	}
	fmt.Println(fields["type"], fields["timestamp"], fields["sender"], fields["recipient"], fields["delivery_protocol"])
	// Output: Rejection 1.7955e+09 ada@example.org nobody@example.com <nil>
}

// A record as a line of a log, for a host that keeps no records of its own.
func ExampleRecord_LogValue() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	logger.Info("mail", "record", queue.Record{
		Type: queue.Rejection, Sender: "ada@example.org", Recipients: []string{"nobody@example.com"},
		Response: queue.Response{Code: 550, Content: "nobody here"},
	})
	// Output:
	// level=INFO msg=mail record.type=Rejection record.id=00000000000000000000000000000000 record.queue="" record.sender=ada@example.org record.recipients=nobody@example.com record.size=0 record.attempts=0 record.code=550 record.content="nobody here"
}
