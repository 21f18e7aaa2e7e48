package deferredtest_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
)

func content(t *testing.T, m *deferred.Message) string {
	t.Helper()
	body, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNewMessage(t *testing.T) {
	env := deferred.Envelope{Sender: "a@example.com", Recipients: []deferred.Recipient{{Address: "b@example.net"}}}
	m := deferredtest.NewMessage(t, env, "Subject: hello\n\nA line.\r\nAnother.\n")
	want := "Subject: hello\r\n\r\nA line.\r\nAnother.\r\n"
	if got := content(t, m); got != want {
		t.Errorf("content %q, want %q", got, want)
	}
	if m.ID.IsZero() || m.Queue != deferred.Queue || m.Attempt != 1 || m.Size != int64(len(want)) || m.LastError != "" {
		t.Errorf("not a message on its first attempt: %+v", m)
	}
	if age := time.Since(m.Received); age < 0 || age > time.Minute {
		t.Errorf("received at %v", m.Received)
	}
	if m.Envelope.Sender != env.Sender || m.Meta == nil {
		t.Errorf("envelope %+v, metadata %v", m.Envelope, m.Meta)
	}
	m.Envelope.Recipients[0].Address = "other@example.net"
	if env.Recipients[0].Address != "b@example.net" {
		t.Error("the message shares its envelope with the test")
	}
}

func TestNewMessageEdits(t *testing.T) {
	m := deferredtest.NewMessage(t, deferred.Envelope{}, "Subject: hello\n\nA line.\n")
	h, err := m.Header()
	if err != nil {
		t.Fatal(err)
	}
	h.Set("Subject", "changed")
	if got, want := content(t, m), "Subject: changed\r\n\r\nA line.\r\n"; got != want {
		t.Errorf("content %q, want %q", got, want)
	}
	if err := m.SetContent(strings.NewReader("Subject: new\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := content(t, m), "Subject: new\r\n\r\n"; got != want {
		t.Errorf("content %q, want %q", got, want)
	}
}

// What a Recorder was given may be reused by the Scheduler.
func TestRecorderRetainsNothing(t *testing.T) {
	var rec deferredtest.Recorder
	r := queue.Record{
		Type: queue.Delivery, Recipients: []string{"b@example.net"}, TLSPeerSubjectName: []string{"CN=a"},
		Meta: map[string]string{"k": "v"}, Headers: map[string]string{"Subject": "hello"},
	}
	if err := rec.Record(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	r.Recipients[0], r.TLSPeerSubjectName[0], r.Meta["k"], r.Headers["Subject"] = "", "", "", ""
	got := rec.Records(queue.Delivery)
	if len(got) != 1 || got[0].Recipients[0] != "b@example.net" || got[0].TLSPeerSubjectName[0] != "CN=a" ||
		got[0].Meta["k"] != "v" || got[0].Headers["Subject"] != "hello" {
		t.Errorf("records %+v", got)
	}
	if got := rec.Records(queue.Bounce); len(got) != 0 {
		t.Errorf("records of another type: %+v", got)
	}
	rec.Records()[0].Type = queue.Bounce
	if got := rec.Records(queue.Bounce); len(got) != 0 {
		t.Error("the slice of Records is the Recorder's own")
	}
}
