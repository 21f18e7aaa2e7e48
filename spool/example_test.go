package spool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// store commits a message that the Spool then owns.
func store(sp spool.Spool, text string) *spool.Entry {
	ctx := context.Background()
	w, err := sp.Create(ctx, int64(len(text)))
	if err != nil {
		panic(err)
	}
	defer w.Abort()
	if _, err := io.WriteString(w, text); err != nil {
		panic(err)
	}
	e := &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "inbox", Class: "-", Due: time.Now(), Received: time.Now()}
	if err := w.Commit(ctx, e); err != nil {
		panic(err)
	}
	return e
}

// A message is staged while it arrives, committed, worked on, and removed.
func Example() {
	ctx := context.Background()
	var sp spool.Spool = spool.NewMemory()
	defer sp.Close()

	w, err := sp.Create(ctx, 0)
	if err != nil {
		fmt.Println(err) // ErrFull, for one: answer 452
		return
	}
	defer w.Abort()
	io.Copy(w, strings.NewReader("Subject: hello\r\n\r\nHello.\r\n"))

	e := &spool.Entry{
		ID: spool.NewID(), Body: w.ID(), Queue: "inbox", Class: "-",
		Due: time.Now(), Received: time.Now(),
		Header: []byte("Received: from client.example\r\n"),
	}
	if err := w.Commit(ctx, e); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("250 OK, size", e.Size) // now it may be acknowledged

	body, err := sp.Open(ctx, e.Body)
	if err != nil {
		fmt.Println(err)
		return
	}
	content := spool.Content(e.Header, body, e.Skip)
	defer content.Close()
	text, err := io.ReadAll(content)
	fmt.Printf("%q %v\n", text, err)

	errs := sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}})
	fmt.Println("removed:", errs == nil)
	// Output:
	// 250 OK, size 57
	// "Received: from client.example\r\nSubject: hello\r\n\r\nHello.\r\n" <nil>
	// removed: true
}

// An entry whose handler failed is given back with a later due time.
func ExampleSpool_apply() {
	ctx := context.Background()
	sp := spool.NewMemory()
	defer sp.Close()
	e := store(sp, "Hello.")

	next := e.Clone() // what was committed or claimed is never changed itself
	next.Attempts++
	next.Due = e.Due.Add(time.Minute)
	if errs := sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: next}}); errs != nil {
		fmt.Println(errs[0])
	}

	errs := sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}})
	fmt.Println("by who owned it before:", errors.Is(errs[0], spool.ErrFenced))
	entries, due, _ := sp.Claim(ctx, spool.ClaimRequest{Due: e.Due, Limit: 10})
	fmt.Println("due now:", len(entries), "next in", due.Sub(e.Due))
	entries, _, _ = sp.Claim(ctx, spool.ClaimRequest{Due: due, Limit: 10})
	fmt.Println("due then:", len(entries), "after", entries[0].Attempts, "attempt")
	// Output:
	// by who owned it before: true
	// due now: 0 next in 1m0s
	// due then: 1 after 1 attempt
}

// Mail moves from one spool to another: to a database, for instance, or to the
// embedded spool with other options.
func ExampleCopy() {
	ctx := context.Background()
	src, dst := spool.NewMemory(), spool.NewMemory()
	store(src, "Hello.")
	store(src, "Hello again.")
	src = src.Reopen() // nobody owns anything now

	res, err := spool.Copy(ctx, dst, src, &spool.CopyOptions{Remove: true})
	fmt.Printf("%d entries, %d bytes, %d left to others, error: %v\n", res.Entries, res.Bytes, res.Owned, err)
	for info, err := range dst.Queues(ctx) {
		fmt.Println(info.Queue, info.Entries, err)
	}
	for range src.Queues(ctx) {
		fmt.Println("something is left")
	}
	// Output:
	// 2 entries, 18 bytes, 0 left to others, error: <nil>
	// inbox 2 <nil>
}

func ExampleSpool_queues() {
	ctx := context.Background()
	sp := spool.NewMemory()
	defer sp.Close()
	store(sp, "Hello.")
	store(sp, "Hello again.")

	for info, err := range sp.Queues(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("%s, class %s, %v: %d entries, %d bytes\n", info.Queue, info.Class, info.State, info.Entries, info.Bytes)
	}
	// Output: inbox, class -, queued: 2 entries, 18 bytes
}

// Two values on one store stand for two processes on a shared spool.
func ExampleMemory_Attach() {
	ctx := context.Background()
	a := spool.NewMemory()
	b := a.Attach()
	defer b.Close()
	e := store(a, "Hello.")

	entries, _, _ := b.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 10})
	fmt.Println("while another owns it:", len(entries))
	a.Close()
	<-b.Changed()
	entries, _, _ = b.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 10})
	fmt.Println("after its Close:", len(entries), entries[0].ID == e.ID)
	// Output:
	// while another owns it: 0
	// after its Close: 1 true
}

func ExampleMemory_Crash() {
	ctx := context.Background()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")
	sp.Started(e.ID) // its handler is about to run

	restarted := sp.Crash()
	fmt.Println("the dead one:", sp.Health())
	entries, _, _ := restarted.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 10})
	fmt.Println("found again:", len(entries), "interrupted:", entries[0].Interrupted)
	// Output:
	// the dead one: spool: closed
	// found again: 1 interrupted: 1
}

func ExampleMemory_Reopen() {
	sp := spool.NewMemory()
	store(sp, "Hello.")
	sp.Close()

	sp = sp.Reopen()
	for e, err := range sp.Scan(context.Background(), spool.Query{}) {
		fmt.Println(e.Queue, err)
	}
	// Output: inbox <nil>
}

func ExampleMemory_SetFull() {
	ctx := context.Background()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")

	sp.SetFull(true)
	_, err := sp.Create(ctx, 0)
	fmt.Println(err)
	fmt.Println("it can empty itself:", sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}}) == nil)
	sp.SetFull(false)
	fmt.Println("health:", sp.Health())
	// Output:
	// spool: no space
	// it can empty itself: true
	// health: <nil>
}

func ExampleMemory_FailSync() {
	ctx := context.Background()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")

	sp.FailSync()
	fmt.Println(sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}}))
	fmt.Println(sp.Health())

	sp = sp.Reopen()
	entries, _, err := sp.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 10})
	fmt.Println("still there:", len(entries), err)
	// Output:
	// [spool: storage failed]
	// spool: storage failed
	// still there: 1 <nil>
}

func ExampleMemory_FailSyncKept() {
	ctx := context.Background()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")

	sp.FailSyncKept()
	fmt.Println(sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}}))

	sp = sp.Reopen()
	entries, _, err := sp.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 10})
	fmt.Println("still there:", len(entries), err)
	// Output:
	// [spool: storage failed]
	// still there: 0 <nil>
}

func ExampleMemory_LoseSession() {
	ctx := context.Background()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")

	sp.LoseSession()
	errs := sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}})
	fmt.Println(errors.Is(errs[0], spool.ErrFenced), errors.Is(sp.Health(), spool.ErrFenced))

	other := sp.Attach()
	entries, _, _ := other.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 10})
	fmt.Println("claimed by another:", len(entries))
	// Output:
	// true true
	// claimed by another: 1
}

func ExampleMemory_Damage() {
	ctx := context.Background()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")
	sp.Damage(e.Body, "body")

	_, err := sp.Open(ctx, e.Body)
	corrupt, ok := errors.AsType[*spool.CorruptError](err)
	fmt.Println(ok && corrupt.ID == e.Body, corrupt.Err)
	// Output: true checksum does not match
}
