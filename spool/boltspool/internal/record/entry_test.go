package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

func fullEntry() *spool.Entry {
	return &spool.Entry{
		ID: spool.NewID(), Body: spool.NewID(), Queue: "c:t@example.com", Class: "tenant", State: spool.Final,
		Due:      time.Date(2026, 7, 8, 9, 10, 11, 123456789, time.UTC),
		Received: time.Date(1969, 12, 31, 23, 59, 59, 1, time.UTC),
		Expires:  time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		Attempts: 7, Interrupted: 2,
		Envelope: spool.Envelope{
			Sender: "jürgen@example.com", SMTPUTF8: true, RequireTLS: true, Body: "8BITMIME", Ret: "HDRS", EnvID: "env id",
			Recipients: []spool.Recipient{
				{Address: "a@example.net", Notify: []string{"SUCCESS", "FAILURE"}, ORcpt: "rfc822;x@example.org"},
				{Address: "b@example.net", Notify: []string{}},
				{},
			},
		},
		Meta:   map[string]string{"queue": "q", "": "", "key": "välue\x00"},
		Header: []byte("Received: x\r\nX: the end\r\n"), Skip: 12,
		LastError: "451 4.4.5 later", Outcome: []byte(`{"type":"Bounce"}`),
	}
}

func emptyEntry() *spool.Entry {
	e := fullEntry()
	e.Meta, e.Header, e.Outcome, e.Envelope.Recipients = map[string]string{}, []byte{}, []byte{}, []spool.Recipient{}
	return e
}

// edits are what an entry may differ from its base in.
var edits = map[string]func(e *spool.Entry){
	"nothing":      func(*spool.Entry) {},
	"body":         func(e *spool.Entry) { e.Body = spool.NewID() },
	"queue":        func(e *spool.Entry) { e.Queue = "" },
	"class":        func(e *spool.Entry) { e.Class = "other" },
	"state":        func(e *spool.Entry) { e.State = spool.Queued },
	"due":          func(e *spool.Entry) { e.Due = e.Due.Add(1) },
	"received":     func(e *spool.Entry) { e.Received = time.Time{} },
	"no expiry":    func(e *spool.Entry) { e.Expires = time.Time{} },
	"attempts":     func(e *spool.Entry) { e.Attempts = 0 },
	"interrupted":  func(e *spool.Entry) { e.Interrupted = math.MaxInt },
	"sender":       func(e *spool.Entry) { e.Envelope.Sender = "" },
	"flags":        func(e *spool.Entry) { e.Envelope.SMTPUTF8, e.Envelope.RequireTLS = false, false },
	"ret":          func(e *spool.Entry) { e.Envelope.Ret, e.Envelope.EnvID, e.Envelope.Body = "", "", "" },
	"recipient":    func(e *spool.Entry) { e.Envelope.Recipients[1].Address = "c@example.net" },
	"notify":       func(e *spool.Entry) { e.Envelope.Recipients[1].Notify = nil },
	"orcpt":        func(e *spool.Entry) { e.Envelope.Recipients[0].ORcpt = "" },
	"no recipient": func(e *spool.Entry) { e.Envelope.Recipients = nil },
	"meta":         func(e *spool.Entry) { e.Meta["queue"] = "r" },
	"more meta":    func(e *spool.Entry) { e.Meta["another"] = "" },
	"no meta":      func(e *spool.Entry) { e.Meta = nil },
	"front":        func(e *spool.Entry) { e.Header = []byte("Received: x\r\n") },
	"back":         func(e *spool.Entry) { e.Header = []byte("X: the end\r\n") },
	"middle":       func(e *spool.Entry) { e.Header = []byte("Received: y\r\nX: the end\r\n") },
	"twice":        func(e *spool.Entry) { e.Header = append(bytes.Clone(e.Header), e.Header...) },
	"empty header": func(e *spool.Entry) { e.Header = []byte{} },
	"no header":    func(e *spool.Entry) { e.Header = nil },
	"skip":         func(e *spool.Entry) { e.Skip = math.MaxInt64 },
	"error":        func(e *spool.Entry) { e.LastError = strings.Repeat("x", 300) },
	"no outcome":   func(e *spool.Entry) { e.Outcome = nil },
}

// decode reads the record at the end of b, whose base is that entry.
func decode(t *testing.T, b []byte, base *spool.Entry) *spool.Entry {
	t.Helper()
	r, n, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if n != len(b) {
		t.Fatalf("the record takes %d bytes of %d", n, len(b))
	}
	if r.Back == 0 {
		base = nil
	}
	e, err := r.Decode(base)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEntry(t *testing.T) {
	for name, e := range map[string]*spool.Entry{"full": fullEntry(), "zero": {ID: spool.NewID()}, "empty": emptyEntry()} {
		t.Run(name, func(t *testing.T) {
			if got := decode(t, AppendEntry(nil, e, nil, 0), nil); !reflect.DeepEqual(got, e) {
				t.Errorf("got  %+v\nwant %+v", got, e)
			}
		})
	}
}

// TestEntryWithBase checks every difference, both ways.
func TestEntryWithBase(t *testing.T) {
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			a, b := fullEntry(), fullEntry()
			edit(b)
			for _, pair := range [][2]*spool.Entry{{a, b}, {b, a}, {emptyEntry(), b}, {b, {ID: a.ID}}, {{ID: a.ID}, b}} {
				base, e := pair[0], pair[1]
				front := AppendEntry([]byte("front"), base, nil, 0)
				both := AppendEntry(front, e, base, len("front"))
				if got := decode(t, both[len(front):], base); !reflect.DeepEqual(got, e) {
					t.Errorf("base %+v\ngot  %+v\nwant %+v", base, got, e)
				}
				if r, _, _ := Parse(both[len(front):]); r.Back != len(front)-len("front") {
					t.Errorf("its base begins %d bytes before, want %d", r.Back, len(front)-len("front"))
				}
			}
		})
	}
}

// TestEntryShares checks that what the entries of one message have in common
// costs once, and that nothing of a base can be changed through another entry.
func TestEntryShares(t *testing.T) {
	base := fullEntry()
	alone := len(AppendEntry(nil, base, nil, 0))
	e := base.Clone()
	e.ID = spool.NewID()
	e.Envelope.Recipients = []spool.Recipient{{Address: "someone@example.org"}}
	rec := AppendEntry(nil, e, base, -alone)
	if len(rec) > alone/3 {
		t.Errorf("an entry that differs in its recipient takes %d bytes, and the first %d", len(rec), alone)
	}
	want := base.Clone()
	got := decode(t, rec, base)
	got.Meta["queue"], got.Header[0], got.Outcome[0] = "changed", '!', '!'
	if !reflect.DeepEqual(base, want) {
		t.Error("the base was changed through an entry")
	}
}

// TestEntryDamage flips every bit and cuts at every byte.
func TestEntryDamage(t *testing.T) {
	e := fullEntry()
	rec := AppendEntry(nil, e, nil, 0)
	for i := range 8 * len(rec) {
		bad := bytes.Clone(rec)
		bad[i/8] ^= 1 << (i % 8)
		if r, _, err := Parse(bad); err == nil {
			t.Fatalf("bit %d flipped: no error, and the ID %s", i, r.ID)
		}
	}
	for n := range rec {
		if _, _, err := Parse(rec[:n]); err == nil {
			t.Fatalf("cut to %d bytes: no error", n)
		}
	}
}

// seal gives a record the length and the checksum that it must have to be read.
func seal(b []byte) []byte {
	if len(b) < lengthSize+minEntry {
		return b
	}
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-lengthSize))
	sum := seglog.Checksum(b[lengthSize : len(b)-sumSize])
	binary.LittleEndian.PutUint32(b[len(b)-sumSize:], sum)
	return b
}

func FuzzEntry(f *testing.F) {
	base := fullEntry()
	f.Add(AppendEntry(nil, base, nil, 0))
	f.Add(AppendEntry(nil, &spool.Entry{ID: base.ID}, nil, 0))
	for name, edit := range edits {
		e := fullEntry()
		edit(e)
		f.Add(AppendEntry(nil, e, base, -len(name)))
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		r, _, err := Parse(seal(rec))
		if err != nil {
			return
		}
		for _, b := range []*spool.Entry{base, nil} {
			got, err := r.Decode(b)
			if err != nil {
				continue
			}
			at := -1000
			if b == nil {
				at = 0
			}
			if again := decode(t, AppendEntry(nil, got, b, at), b); !reflect.DeepEqual(got, again) {
				t.Errorf("got  %+v\nand after encoding it again\n     %+v", got, again)
			}
		}
	})
}

// samplePayload returns a payload with a change of each kind.
func samplePayload() (payload []byte, bodies []Body, changes []Change) {
	e, f := fullEntry(), fullEntry()
	f.Queue = "another"
	bodies = []Body{{ID: spool.NewID(), Size: 100, Sum: 7}, {ID: spool.NewID(), File: true, Size: 1 << 40, Sum: 8}}
	b := AppendBodies(nil, bodies)
	b, at := AppendPut(b, e, nil, 0)
	first := Change{Op: Put, ID: e.ID, At: at, Length: len(b) - at}
	b, at2 := AppendPut(b, f, e, at)
	second := Change{Op: Put, ID: f.ID, At: at2, Length: len(b) - at2}
	second.Entry.Back = at2 - at
	b = AppendRemove(b, e.ID)
	ids := []spool.ID{spool.NewID(), spool.NewID()}
	b = AppendMove(b, bodies[0].ID, seglog.At(3, 4), ids)
	b = AppendCounted(b, f.ID)
	return b, bodies, []Change{
		first, second, {Op: Remove, ID: e.ID},
		{Op: Move, ID: bodies[0].ID, From: seglog.At(3, 4), Entries: ids}, {Op: Counted, ID: f.ID},
	}
}

func TestPayload(t *testing.T) {
	payload, bodies, want := samplePayload()
	got, rest, err := ParseBodies(payload)
	if err != nil || !reflect.DeepEqual(got, bodies) {
		t.Errorf("got bodies %+v and error %v, want %+v", got, err, bodies)
	}
	var changes []Change
	for c, err := range Changes(payload, rest) {
		if err != nil {
			t.Fatal(err)
		}
		c.Entry.ID, c.Entry.mask, c.Entry.fields = spool.ID{}, 0, nil
		changes = append(changes, c)
	}
	if !reflect.DeepEqual(changes, want) {
		t.Errorf("got  %+v\nwant %+v", changes, want)
	}
}

// TestPayloadDamage flips every bit: changes beside a damaged record are read,
// and nothing is read that was not there.
func TestPayloadDamage(t *testing.T) {
	payload, bodies, want := samplePayload()
	start := len(AppendBodies(nil, bodies))
	puts := map[string]bool{}
	for _, c := range want[:2] {
		puts[fmt.Sprint(c.ID, c.At, c.Length)] = true
	}
	alone := 0
	for i := 8 * start; i < 8*len(payload); i++ {
		bad := bytes.Clone(payload)
		bad[i/8] ^= 1 << (i % 8)
		got, failed := 0, 0
		for c, err := range Changes(bad, len(bad)-start) {
			switch {
			case err != nil:
				failed++
			case c.Op == Put && !puts[fmt.Sprint(c.ID, c.At, c.Length)]:
				t.Fatalf("bit %d flipped: a record of %s at %d passed", i, c.ID, c.At)
			default:
				got++
			}
		}
		if failed == 1 && got == len(want)-1 {
			alone++
		}
	}
	if alone == 0 {
		t.Error("no damage left the changes behind it readable")
	}
}

func FuzzPayload(f *testing.F) {
	payload, _, _ := samplePayload()
	f.Add(payload)
	f.Add(AppendRemove(AppendBodies(nil, nil), spool.NewID()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		bodies, rest, err := ParseBodies(payload)
		if err != nil {
			return
		}
		if again := AppendBodies(nil, bodies); len(again) > len(payload)-rest {
			t.Errorf("%d bodies were read from %d bytes", len(bodies), len(payload)-rest)
		}
		end := len(payload) - rest
		for c, err := range Changes(payload, rest) {
			if err == nil && c.Op == Put && (c.At <= end-1 || c.At+c.Length > len(payload)) {
				t.Errorf("a record from %d to %d in a payload of %d", c.At, c.At+c.Length, len(payload))
			}
		}
	})
}
