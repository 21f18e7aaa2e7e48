package spool_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestNewID(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	seen := make(map[spool.ID]bool)
	for range 10_000 {
		id := spool.NewID()
		if seen[id] {
			t.Fatalf("NewID: %s twice", id)
		}
		seen[id] = true
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("NewID: %s: got version %d, variant %d, want 7 and 2 (RFC 9562, section 5.7)", id, id[6]>>4, id[8]>>6)
		}
		if made := id.Time(); made.Before(before) || made.After(time.Now()) {
			t.Fatalf("ID.Time: %s was made at %v, after %v", id, made, before)
		}
	}
}

func TestNewIDSorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := spool.NewID()
		for range 10_000 {
			time.Sleep(250 * time.Nanosecond) // the resolution, virtual here
			id := spool.NewID()
			if bytes.Compare(id[:], last[:]) <= 0 {
				t.Fatalf("NewID: %s does not sort after %s, which was made before", id, last)
			}
			last = id
		}
	})
}

func TestParseID(t *testing.T) {
	const digits = "0198c0de12347abc8def0123456789ab"
	tests := []struct {
		name, in string
		ok       bool
	}{
		{"as String", digits, true},
		{"upper case", strings.ToUpper(digits), true},
		{"with hyphens", "0198c0de-1234-7abc-8def-0123456789ab", true},
		{"hyphens elsewhere", "0198c0de1-234-7abc-8def-0123456789ab", false},
		{"one hyphen", "0198c0de-12347abc8def0123456789ab", false},
		{"short", digits[1:], false},
		{"long", digits + "0", false},
		{"not hexadecimal", "g" + digits[1:], false},
		{"braces", "{" + digits + "}", false},
		{"empty", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id, err := spool.ParseID(test.in)
			switch {
			case test.ok && (err != nil || id.String() != digits):
				t.Errorf("ParseID(%q): got %s, %v, want %s", test.in, id, err, digits)
			case !test.ok && (err == nil || !id.IsZero() && test.name != "not hexadecimal"):
				t.Errorf("ParseID(%q): got %s, %v, want an error", test.in, id, err)
			case !test.ok && !strings.Contains(err.Error(), test.in):
				t.Errorf("ParseID(%q): error %q does not name it", test.in, err)
			}
		})
	}
}

func TestIDText(t *testing.T) {
	type doc struct{ ID spool.ID }
	want := doc{spool.NewID()}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `{"ID":"`+want.ID.String()+`"}` {
		t.Fatalf("Marshal: got %s, %v", text, err)
	}
	var got doc
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("Unmarshal: got %v, %v, want %v", got, err, want)
	}
	if err := json.Unmarshal([]byte(`{"ID":"x"}`), &got); err == nil {
		t.Error("Unmarshal of an ID that is none: got no error")
	}
}

func TestIDIsZero(t *testing.T) {
	if !(spool.ID{}).IsZero() || spool.NewID().IsZero() {
		t.Error("IsZero: want true of the zero ID and nothing else")
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("0198c0de12347abc8def0123456789ab")
	f.Add("0198c0de-1234-7abc-8def-0123456789ab")
	f.Add("------------------------------------")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := spool.ParseID(s)
		if err != nil {
			return
		}
		if want := strings.ToLower(strings.ReplaceAll(s, "-", "")); id.String() != want {
			t.Errorf("ParseID(%q): got %s", s, id)
		}
		if again, err := spool.ParseID(id.String()); err != nil || again != id {
			t.Errorf("ParseID(String): got %s, %v, want %s", again, err, id)
		}
	})
}
