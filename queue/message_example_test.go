package queue_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A policy is a function, and a test may call it without a Scheduler.
func ExampleNewMessage() {
	policy := func(_ context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		if h.Get("Subject") == "" {
			return queue.Reject(550, "5.7.1 a message without a subject")
		}
		return nil
	}
	ctx, sp := context.Background(), spool.NewMemory()
	defer sp.Close()
	for _, text := range []string{"Subject: hello\r\n\r\nHi.\r\n", "\r\nHi.\r\n"} {
		w, err := sp.Create(ctx, int64(len(text)))
		if err != nil {
			log.Fatal(err)
		}
		defer w.Abort()
		if _, err := io.WriteString(w, text); err != nil {
			log.Fatal(err)
		}
		e := &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: queue.Deferred, Class: "-", Due: time.Now()}
		if err := w.Commit(ctx, e); err != nil {
			log.Fatal(err)
		}
		m := queue.NewMessage(ctx, sp, e)
		fmt.Println(policy(ctx, m))
		m.Discard()
	}
	// Output:
	// <nil>
	// 550 5.7.1 a message without a subject
}

// Header is where a policy reads and edits. What it does not touch stays byte for byte.
func ExampleMessage_Header() {
	inject := func(_ context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		m.Meta["tenant"] = h.Get("X-Tenant")
		h.Del("X-Tenant")
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	relay := func(_ context.Context, m *queue.Message) error {
		body, err := m.Open()
		if err != nil {
			return err
		}
		defer body.Close()
		text, err := io.ReadAll(body)
		fmt.Printf("%s: %q\n", m.Queue, text)
		return err
	}
	if err := s.Handle("*", relay); err != nil {
		log.Fatal(err)
	}
	text := "X-Tenant: acme\r\nSUBJECT:hello\r\n\r\nHi.\r\n"
	if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader(text)); err != nil {
		log.Fatal(err)
	}
	run(s, delivered(s, 1), 1)
	// Output: acme@example.com: "SUBJECT:hello\r\n\r\nHi.\r\n"
}

// Mail that is to go out later: the policy routes it now, and its queue starts then.
func ExampleMessage_SetDue() {
	start := time.Now().Add(time.Hour).Truncate(time.Second)
	inject := func(_ context.Context, m *queue.Message) error {
		m.SetDue(start)
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Handle("example.com", func(context.Context, *queue.Message) error { return nil }); err != nil {
		log.Fatal(err)
	}
	routed := routed(s, 1)
	ctx := context.Background()
	if _, err := s.Submit(ctx, toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
		log.Fatal(err)
	}
	run(s, routed, 1)
	infos, err := s.Admin().List(ctx, queue.Filter{Queue: "example.com"}, spool.ID{}, 10)
	if err != nil {
		log.Fatal(err)
	}
	for _, info := range infos {
		fmt.Println(info.Queue, "in", info.Due.Sub(start))
	}
	// Output: example.com in 0s
}

// A handler that handed a message to a host without notifications of its own tells a
// sender who asked for them that it did (RFC 3461, section 5.2.2).
func ExampleMessage_Report() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	relay := func(ctx context.Context, m *queue.Message) error {
		r, err := m.Report(dsn.Relayed)
		if err != nil || len(r.Recipients) == 0 {
			return err
		}
		r.ReportingMTA = "relay.example"
		var notice strings.Builder
		if err := r.Write(&notice); err != nil {
			return err
		}
		_, err = m.Emit(ctx, r.NoticeEnvelope(), nil, strings.NewReader(notice.String()))
		return err
	}
	read := func(_ context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		fmt.Println("to", m.Envelope.Recipients[0].Address+":", h.Get("Subject"))
		return nil
	}
	for name, h := range map[string]queue.Handler{"example.com": relay, "example.org": read} {
		if err := s.Handle(name, h); err != nil {
			log.Fatal(err)
		}
	}
	env := toOne("bob@example.com")
	env.Sender, env.Recipients[0].Notify = "ada@example.org", []string{"SUCCESS"}
	if _, err := s.Submit(context.Background(), env, nil, strings.NewReader("\nHi\n")); err != nil {
		log.Fatal(err)
	}
	run(s, delivered(s, 2), 2)
	// Output: to ada@example.org: Relayed mail
}
