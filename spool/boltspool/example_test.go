package boltspool_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

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
	w, err := sp.Create(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	io.Copy(w, strings.NewReader("Subject: hello\r\n\r\nHi\r\n"))
	err = w.Commit(ctx, &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "inbox", Class: "-", Due: time.Now(), Received: time.Now()})
	if err != nil {
		log.Fatal(err)
	}

	copied := filepath.Join(base, "copy")
	if err := sp.Backup(ctx, copied); err != nil {
		log.Fatal(err)
	}
	found, err := boltspool.Verify(ctx, copied, nil)
	fmt.Println(found.Entries, found.Bodies, len(found.Damaged), err)
	// Output: 1 1 0 <nil>
}
