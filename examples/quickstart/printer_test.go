package main

import (
	"testing"
	"time"
	"unicode"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestCells(t *testing.T) {
	for _, tt := range []struct {
		columns []column
		texts   []string
		want    string
	}{
		{[]column{5, -4}, []string{"ab", "1"}, "ab        1  "},
		{[]column{5}, []string{"Łódź!"}, "Łódź!  "},
		{[]column{5}, []string{"abcdef"}, "abcd…  "},
	} {
		if got := cells(tt.columns, tt.texts...); got != tt.want {
			t.Errorf("cells(%v, %q) = %q, want %q", tt.columns, tt.texts, got, tt.want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 ms", 840 * time.Microsecond: "0.8 ms", 340 * time.Millisecond: "340 ms",
		1500 * time.Millisecond: "1.5 s", 90 * time.Second: "1m30s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPaint(t *testing.T) {
	p := &printer{colour: true}
	if got := p.paint(good, "yes"); got != "\x1b[32myes\x1b[0m" {
		t.Errorf("in colour: %q", got)
	}
	if got := p.paint(plain, "yes"); got != "yes" {
		t.Errorf("plain: %q", got)
	}
	p.colour = false
	if got := p.paint(good, "yes"); got != "yes" {
		t.Errorf("without colour: %q", got)
	}
}

func FuzzTitle(f *testing.F) {
	for _, s := range []string{"", "Hello", "=?utf-8?q?h=C3=A4?=", "=?x-unknown?q?a?=", "\x1b[2J", "=?utf-8?b?G1sySg==?="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := title(s)
		if got == "" {
			t.Error("empty")
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("title(%q) = %q: %U is not printable", s, got, r)
			}
		}
	})
}

func FuzzReplyIDs(f *testing.F) {
	a, b := spool.NewID(), spool.NewID()
	for _, s := range []string{"OK ids=" + a.String() + " " + b.String(), "OK", "OK ids=", "OK ids=xyz", "OK ids=" + a.String() + " ..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ids, err := replyIDs(s)
		if err != nil {
			return
		}
		text := "OK ids="
		for _, id := range ids {
			text += id.String() + " "
		}
		again, err := replyIDs(text)
		if err != nil || len(again) != len(ids) {
			t.Errorf("replyIDs(%q) = %v; written again: %v, %v", s, ids, again, err)
		}
	})
}
