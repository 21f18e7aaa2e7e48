package spool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// An ID as an operator types it, from a reply to DATA or a record.
func ExampleParseID() {
	id, err := spool.ParseID("01980f2a-6c00-7abc-8def-0123456789ab")
	fmt.Println(id, err)
	_, err = spool.ParseID("01980f2a")
	fmt.Println(err != nil)
	// Output:
	// 01980f2a6c007abc8def0123456789ab <nil>
	// true
}

// An ID knows when it was made.
func ExampleID_Time() {
	id, err := spool.ParseID("01980f2a6c007abc8def0123456789ab")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id.Time().UTC().Format(time.RFC3339))
	// Output: 2025-07-15T17:38:15Z
}

// The zero ID names nothing.
func ExampleID_IsZero() {
	var id spool.ID
	fmt.Println(id.IsZero(), spool.NewID().IsZero())
	// Output: true false
}

// IDs are text in JSON, and keys of its objects.
func ExampleID_MarshalText() {
	id, err := spool.ParseID("01980f2a6c007abc8def0123456789ab")
	if err != nil {
		log.Fatal(err)
	}
	text, err := json.Marshal(map[spool.ID]spool.ID{id: id})
	fmt.Println(string(text), err)
	// Output: {"01980f2a6c007abc8def0123456789ab":"01980f2a6c007abc8def0123456789ab"} <nil>
}

func ExampleID_UnmarshalText() {
	var request struct{ ID spool.ID }
	err := json.Unmarshal([]byte(`{"ID": "01980f2a-6c00-7abc-8def-0123456789ab"}`), &request)
	fmt.Println(request.ID, err)
	// Output: 01980f2a6c007abc8def0123456789ab <nil>
}

// Handlers run between Started and Ended. After a crash in between the entry says so,
// and a policy may be careful with a message that others died of.
func ExampleMemory_Ended() {
	ctx := context.Background()
	sp := spool.NewMemory()
	safe, deadly := store(sp, "Hello."), store(sp, "Hello again.")
	sp.Started(safe.ID, deadly.ID)
	sp.Ended(safe.ID)

	sp = sp.Crash()
	for e, err := range sp.Scan(ctx, spool.Query{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Interrupted, "in a crash")
	}
	// Output:
	// 0 in a crash
	// 1 in a crash
}

// A disk that takes its time, for tests of what must not wait for it.
func ExampleMemory_SetDelay() {
	sp := spool.NewMemory()
	defer sp.Close()
	sp.SetDelay(20 * time.Millisecond)
	began := time.Now()
	store(sp, "Hello.")
	fmt.Println("slow:", time.Since(began) >= 20*time.Millisecond)
	// Output: slow: true
}

// What no message waits for is not changed: Clone before an edit.
func ExampleEntry_Clone() {
	e := &spool.Entry{ID: spool.NewID(), Meta: map[string]string{"tenant": "acme"}}
	next := e.Clone()
	next.Meta["tenant"] = "zenith"
	fmt.Println(e.Meta["tenant"], next.Meta["tenant"], e.ID == next.ID)
	// Output: acme zenith true
}
