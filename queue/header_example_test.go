package queue_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// edited prints what is left of text after edit.
func edited(text string, edit func(*queue.Header)) {
	inject := func(_ context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		edit(h)
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	show := func(_ context.Context, m *queue.Message) error {
		body, err := m.Open()
		if err != nil {
			return err
		}
		defer body.Close()
		content, err := io.ReadAll(body)
		head, _, _ := strings.Cut(string(content), "\r\n\r\n")
		fmt.Println(strings.ReplaceAll(head, "\r\n", "\n"))
		return err
	}
	if err := s.Handle("*", show); err != nil {
		log.Fatal(err)
	}
	if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader(text)); err != nil {
		log.Fatal(err)
	}
	run(s, delivered(s, 1), 1)
}

const exampleText = "Received: by b\r\nReceived: by a\r\nSubject: hello\r\nX-Internal: 1\r\n\r\nHi.\r\n"

// Set replaces the first field of that name, drops the others, and adds one where there
// is none.
func ExampleHeader_Set() {
	edited(exampleText, func(h *queue.Header) {
		h.Set("Subject", "good morning")
		h.Set("X-Campaign", "autumn")
	})
	// Output:
	// Received: by b
	// Received: by a
	// Subject: good morning
	// X-Internal: 1
	// X-Campaign: autumn
}

func ExampleHeader_Del() {
	edited(exampleText, func(h *queue.Header) { h.Del("x-internal") })
	// Output:
	// Received: by b
	// Received: by a
	// Subject: hello
}

// Trace fields stand at the top (RFC 5321, section 4.4), others at the end.
func ExampleHeader_Prepend() {
	edited(exampleText, func(h *queue.Header) {
		h.Prepend("Authentication-Results", "mx.example; none")
		h.Append("List-Id", "<news.example.com>")
	})
	// Output:
	// Authentication-Results: mx.example; none
	// Received: by b
	// Received: by a
	// Subject: hello
	// X-Internal: 1
	// List-Id: <news.example.com>
}

func ExampleHeader_Append() {
	edited("Subject: hello\r\n\r\nHi.\r\n", func(h *queue.Header) {
		h.Append("Comments", "no value\r\nBcc: makes another field")
	})
	// Output:
	// Subject: hello
	// Comments: no value Bcc: makes another field
}

// A signature is a field whose bytes are settled: signers make all of it.
func ExampleHeader_PrependRaw() {
	edited("Subject: hello\r\n\r\nHi.\r\n", func(h *queue.Header) {
		h.PrependRaw([]byte("DKIM-Signature: v=1; a=ed25519-sha256;\r\n\td=example.com; s=k1; b=c2ln\r\n"))
	})
	// Output:
	// DKIM-Signature: v=1; a=ed25519-sha256;
	// 	d=example.com; s=k1; b=c2ln
	// Subject: hello
}

func ExampleHeader_Values() {
	edited(exampleText, func(h *queue.Header) { fmt.Printf("%q\n", h.Values("received")) })
	// Output:
	// ["by b" "by a"]
	// Received: by b
	// Received: by a
	// Subject: hello
	// X-Internal: 1
}

func ExampleHeader_Get() {
	edited("Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\nHi.\r\n", func(h *queue.Header) {
		fmt.Printf("%q %q\n", h.Get("subject"), h.Get("From"))
	})
	// Output:
	// "=?utf-8?q?gr=C3=BC=C3=9Fe?=" ""
	// Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=
}
