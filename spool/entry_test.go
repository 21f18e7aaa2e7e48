package spool_test

import (
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestEntryClone(t *testing.T) {
	build := func() *spool.Entry {
		return &spool.Entry{
			ID: spool.ID{1}, Body: spool.ID{2}, Queue: "q", Class: "c", State: spool.Held, Attempts: 3,
			Envelope: spool.Envelope{
				Sender:     "a@example.com",
				Recipients: []spool.Recipient{{Address: "b@example.com", Notify: []string{"NEVER"}}},
			},
			Meta:   map[string]string{"k": "v"},
			Header: []byte("header"), Outcome: []byte("outcome"),
		}
	}
	e := build()
	c := e.Clone()
	if !reflect.DeepEqual(c, e) {
		t.Fatalf("Clone: got %+v, want %+v", c, e)
	}
	c.Envelope.Recipients[0].Address = "x"
	c.Envelope.Recipients[0].Notify[0] = "x"
	c.Meta["k"] = "x"
	c.Header[0], c.Outcome[0] = 'x', 'x'
	if !reflect.DeepEqual(e, build()) {
		t.Errorf("a change of the clone changed the original to %+v", e)
	}
	if c := (&spool.Entry{}).Clone(); !reflect.DeepEqual(c, &spool.Entry{}) {
		t.Errorf("Clone of the zero Entry: got %+v", c)
	}
}

func TestStateString(t *testing.T) {
	want := map[spool.State]string{spool.Queued: "queued", spool.Held: "held", spool.Final: "final", 99: "unknown"}
	for s, name := range want {
		if s.String() != name {
			t.Errorf("State(%d).String: got %q, want %q", s, s, name)
		}
	}
}

func TestCorruptError(t *testing.T) {
	id := spool.ID{0xab}
	err := error(&spool.CorruptError{ID: id, Part: "body", Err: io.ErrUnexpectedEOF})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("CorruptError does not unwrap to its cause")
	}
	want := "spool: body ab000000000000000000000000000000 is damaged: unexpected EOF"
	if err.Error() != want {
		t.Errorf("Error: got %q, want %q", err, want)
	}
}
