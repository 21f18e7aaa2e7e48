package recordlog_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A host gives its Scheduler the log, and closes it when that has ended.
func Example() {
	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	records, err := recordlog.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	inject := func(context.Context, *queue.Message) error { return queue.Reject(550, "5.7.1 not today") }
	sched, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{
		Record: func(ctx context.Context, r queue.Record) error {
			if r.Type == queue.Bounce {
				defer stop() // that is all
			}
			return records.Record(ctx, r)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	env := spool.Envelope{Sender: "ada@example.org", Recipients: []spool.Recipient{{Address: "bob@example.com"}}}
	if _, err := sched.Submit(ctx, env, nil, strings.NewReader("Subject: hi\r\n\r\nHi.\r\n")); err != nil {
		log.Fatal(err)
	}
	if err := sched.Run(ctx); err != nil {
		log.Fatal(err)
	}
	if err := records.Close(); err != nil {
		log.Fatal(err)
	}
	for it, err := range recordlog.Read(dir, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(it.Record.Type, it.Record.Response.Code, it.Record.Recipients)
	}
	// Output:
	// Reception 250 [bob@example.com]
	// Bounce 550 [bob@example.com]
}

// A program that acts on bounces keeps its cursor, and goes on where it stood.
func ExampleFollow() {
	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	records, err := recordlog.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer records.Close()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	for i := range 3 {
		r := queue.Record{Type: queue.Bounce, ID: spool.ID{byte(i)}, Sender: fmt.Sprintf("%d@example.org", i)}
		if err := records.Record(ctx, r); err != nil {
			log.Fatal(err)
		}
	}
	cursor := recordlog.Cursor{}
	q := &recordlog.Query{After: cursor, Types: []queue.RecordType{queue.Bounce}}
	for it, err := range recordlog.Follow(ctx, dir, q) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("bounced:", it.Record.Sender)
		cursor.Advance(it.Mark) // and store it
		if it.Record.Sender == "2@example.org" {
			break
		}
	}
	// Output:
	// bounced: 0@example.org
	// bounced: 1@example.org
	// bounced: 2@example.org
}

// Read yields what a Query selects, in the order in which it was written.
func ExampleRead() {
	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	records, err := recordlog.Open(dir, &recordlog.Options{Meta: []string{"tenant"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, typ := range []queue.RecordType{queue.Reception, queue.Bounce} {
		meta := map[string]string{"tenant": "acme", "secret": "x"}
		r := queue.Record{Type: typ, Time: time.Now(), Sender: "ada@example.org", Meta: meta}
		if err := records.Record(context.Background(), r); err != nil {
			log.Fatal(err)
		}
	}
	if err := records.Close(); err != nil {
		log.Fatal(err)
	}
	for it, err := range recordlog.Read(dir, &recordlog.Query{Types: []queue.RecordType{queue.Bounce}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(it.Record.Type, it.Record.Sender, it.Record.Meta)
	}
	// Output: Bounce ada@example.org map[tenant:acme]
}

// Records of what is still under way wait for FlushInterval. Who reads them sooner says so.
func ExampleLog_Flush() {
	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	records, err := recordlog.Open(dir, &recordlog.Options{FlushInterval: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	defer records.Close()
	ctx := context.Background()
	if err := records.Record(ctx, queue.Record{Type: queue.Reception, Sender: "ada@example.org"}); err != nil {
		log.Fatal(err)
	}
	if err := records.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	for it, err := range recordlog.Read(dir, nil) {
		fmt.Println(it.Record.Type, it.Record.Sender, err)
	}
	// Output: Reception ada@example.org <nil>
}

// What is finished is read-only, and may be moved to an archive.
func ExampleLog_Rotate() {
	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	records, err := recordlog.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer records.Close()
	ctx := context.Background()
	if err := records.Record(ctx, queue.Record{Type: queue.Reception, Sender: "ada@example.org"}); err != nil {
		log.Fatal(err)
	}
	if err := records.Rotate(ctx); err != nil {
		log.Fatal(err)
	}
	finished, err := filepath.Glob(filepath.Join(dir, "*.zst"))
	if err != nil {
		log.Fatal(err)
	}
	for _, path := range finished {
		info, err := os.Stat(path)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(filepath.Ext(path), info.Mode())
	}
	// Output: .zst -r--r-----
}
