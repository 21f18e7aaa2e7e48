package boltspool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// store commits a message that the Spool then owns.
func store(sp spool.Spool, text string) {
	ctx := context.Background()
	w, err := sp.Create(ctx, int64(len(text)))
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	if _, err := io.WriteString(w, text); err != nil {
		log.Fatal(err)
	}
	err = w.Commit(ctx, &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "inbox", Class: "-", Due: time.Now(), Received: time.Now()})
	if err != nil {
		log.Fatal(err)
	}
}

// What Commit answered nil for is found when the spool is opened again.
func ExampleOpen() {
	base, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir, ctx := filepath.Join(base, "spool"), context.Background()

	sp, err := boltspool.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	w, err := sp.Create(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	io.Copy(w, strings.NewReader("Subject: hello\r\n\r\nHi\r\n"))
	err = w.Commit(ctx, &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "inbox", Class: "-",
		Due: time.Now(), Received: time.Now(), Header: []byte("Received: by example\r\n")})
	if err != nil {
		log.Fatal(err)
	}
	if err := sp.Close(); err != nil {
		log.Fatal(err)
	}

	sp, err = boltspool.Open(dir, &boltspool.Options{LockTimeout: 5 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer sp.Close()
	entries, _, err := sp.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 10})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		body, err := sp.Open(ctx, e.Body)
		if err != nil {
			log.Fatal(err)
		}
		content := spool.Content(e.Header, body, e.Skip)
		text, _ := io.ReadAll(content)
		content.Close()
		fmt.Printf("%s: %q\n", e.Queue, text)
	}
	// Output:
	// inbox: "Received: by example\r\nSubject: hello\r\n\r\nHi\r\n"
}

// A backup is a spool: it can be verified, looked into, and opened when the original is gone.
func ExampleSpool_Backup() {
	base, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir, ctx := filepath.Join(base, "spool"), context.Background()
	sp, err := boltspool.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sp.Close()
	store(sp, "Subject: hello\r\n\r\nHi\r\n")

	copied := filepath.Join(base, "copy")
	if err := sp.Backup(ctx, copied); err != nil {
		log.Fatal(err)
	}
	found, err := boltspool.Verify(ctx, copied, nil)
	fmt.Println(found.Entries, found.Bodies, len(found.Damaged), err)
	// Output: 1 1 0 <nil>
}

// An index that is damaged is made again from the log. Nothing is lost by it.
func ExampleRebuild() {
	base, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir := filepath.Join(base, "spool")
	sp, err := boltspool.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	store(sp, "Subject: hello\r\n\r\nHi\r\n")
	if err := sp.Close(); err != nil {
		log.Fatal(err)
	}

	result, err := boltspool.Rebuild(dir, nil)
	fmt.Println(result.Entries, "message,", result.Damaged, "parts that cannot be read,", err)
	sp, err = boltspool.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sp.Close()
	for e, err := range sp.Scan(context.Background(), spool.Query{}) {
		fmt.Println(e.Queue, err)
	}
	// Output:
	// 1 message, 0 parts that cannot be read, <nil>
	// inbox <nil>
}

// What a spool holds, and what it did since it was opened.
func ExampleSpool_Stats() {
	base, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	sp, err := boltspool.Open(filepath.Join(base, "spool"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sp.Close()
	store(sp, "Subject: hello\r\n\r\nHi\r\n")
	store(sp, "Subject: hello\r\n\r\nHi again\r\n")

	st := sp.Stats()
	fmt.Println(st.Entries, "messages in", st.Groups, "groups, each with one sync")
	fmt.Println("damaged:", st.SetAside)
	// Output:
	// 2 messages in 2 groups, each with one sync
	// damaged: 0
}

// Health says whether the spool takes mail, and why not.
func ExampleSpool_Health() {
	base, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	sp, err := boltspool.Open(filepath.Join(base, "spool"), &boltspool.Options{
		Reserve: 1 << 60, // more than there is
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sp.Close()
	fmt.Println(errors.Is(sp.Health(), spool.ErrFull)) // a listener answers 452
	// Output: true
}
