package spooltest

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
)

var skipTests = []conformanceTest{
	{
		name: "Content",
		rule: "the content of an entry is Header, followed by the body from offset Skip on, and Size is its length",
		run:  skipContent,
	},
	{
		name: "Beyond",
		rule: "Skip counts bytes of the body: below 0, or beyond what the body has, the unit is refused, and nothing changes",
		run:  skipBeyond,
	},
	{
		name: "Update",
		rule: "Size follows Header, Skip and body with every Update, and the body stays as it is",
		run: func(f *fixture) {
			e := f.owned("0123456789")
			for n, skip := range []int64{0, 10, 3, 0, 7} {
				next := e.Clone()
				next.Header, next.Skip = []byte(strings.Repeat("h", n*n)), skip
				f.apply(spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})
				f.content(next, "0123456789")
				e = next
			}
			w := f.stage("abc")
			next := e.Clone()
			next.Body, next.Header, next.Skip = w.ID(), nil, 1
			f.apply(spool.Unit{{Op: spool.Update, Entry: next, Stage: w, Keep: true}})
			f.content(next, "abc")
			f.infos(spool.QueueInfo{Queue: "queue", Class: "class", Entries: 1, Bytes: 2, Oldest: e.Received})
		},
	},
}

func skipContent(f *fixture) {
	for _, body := range []string{"", "x", "0123456789", noise(1<<20 + 5)} {
		w := f.stage(body)
		var u spool.Unit
		for _, header := range []string{"", "h", "Subject: x\r\n", noise(100_000)} {
			for _, skip := range []int{0, 1, len(body) / 2, len(body) - 1, len(body)} {
				if skip < 0 || skip > len(body) {
					continue
				}
				e := f.entry(w.ID())
				e.Header, e.Skip = []byte(header), int64(skip)
				u = append(u, spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true})
			}
		}
		f.apply(u)
		for _, c := range u {
			f.content(c.Entry, body)
		}
	}
}

// content checks Size and content of an entry that is stored.
func (f *fixture) content(e *spool.Entry, body string) {
	f.t.Helper()
	want := string(e.Header) + body[e.Skip:]
	if e.Size != int64(len(want)) {
		f.fail("Size of an entry with a header of %d bytes, a body of %d and Skip %d: got %d, want %d", len(e.Header), len(body), e.Skip, e.Size, len(want))
	}
	got := f.find(e.ID)
	f.equal("by Scan", got, e)
	b, err := f.sp.Open(f.ctx, got.Body)
	f.ok(err, "Open of a stored body")
	c := spool.Content(got.Header, b, got.Skip)
	text, err := io.ReadAll(c)
	f.ok(err, "reading the content of an entry")
	f.ok(c.Close(), "Close")
	if !bytes.Equal(text, []byte(want)) {
		f.fail("content of an entry with a header of %d bytes, a body of %d and Skip %d: got %d bytes %.60q, want %d bytes %.60q",
			len(e.Header), len(body), e.Skip, len(text), text, len(want), want)
	}
}

func skipBeyond(f *fixture) {
	stored := f.owned("0123456789")
	long := f.owned("0123456789 and more", func(e *spool.Entry) { e.Skip = 15 })
	for _, skip := range []int64{-1, 11, 1 << 40} {
		w := f.stage("0123456789")
		e := f.entry(w.ID())
		e.Skip = skip
		next := stored.Clone()
		next.Skip = skip
		moved := stored.Clone()
		moved.Body, moved.Skip = w.ID(), skip
		onto := f.entry(stored.Body)
		onto.Skip = skip
		tests := []struct {
			what string
			c    spool.Change
		}{
			{"Insert", spool.Change{Op: spool.Insert, Entry: e, Stage: w}},
			{"Insert onto a stored body", spool.Change{Op: spool.Insert, Entry: onto}},
			{"Update", spool.Change{Op: spool.Update, Entry: next}},
			{"Update with a new body", spool.Change{Op: spool.Update, Entry: moved, Stage: w}},
		}
		for _, test := range tests {
			if err := f.try(spool.Unit{test.c}); err == nil {
				f.fail("%s with Skip %d and a body of 10 bytes: got no error", test.what, skip)
			}
			f.same(fmt.Sprintf("Scan after %s with Skip %d", test.what, skip), f.stored(), byID(stored, long))
			f.lacks(w.ID(), "of a unit that was refused")
			f.unchanged(stored, "0123456789")
		}
	}
	shorter := long.Clone()
	shorter.Body = stored.Body // of which Skip is beyond the end
	if err := f.try(unit(spool.Update, shorter)); err == nil {
		f.fail("Update to a body of 10 bytes with Skip 15: got no error")
	}
	f.unchanged(long, "0123456789 and more")
	f.apply(unit(spool.Update, long), unit(spool.Update, stored)) // which are owned as before
}
