package spooltest

import (
	"bytes"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var entryTests = []conformanceTest{
	{
		name: "RoundTrip",
		rule: "every field of an Entry comes back as it was stored, times as equal instants",
		run: func(f *fixture) {
			body := f.owned("0123456789").Body
			for _, e := range f.specimens(body) {
				want := e.Clone()
				f.apply(spool.Unit{{Op: spool.Insert, Entry: e, Keep: true}})
				want.Rev, want.Size = e.Rev, int64(len(e.Header))+10-e.Skip
				f.equal("after Insert", e, want)
				f.equal("by Scan", f.find(e.ID), want)
				f.apply(unit(spool.Release, e))
				got := f.one(e.ID)
				if got.Rev < want.Rev {
					f.fail("Claim: Rev went from %d to %d", want.Rev, got.Rev)
				}
				want.Rev = got.Rev
				f.equal("by Claim", got, want)
			}
		},
	},
	{
		name: "Update",
		rule: "Update replaces the stored entry: nothing of the old one stays",
		run: func(f *fixture) {
			e := f.owned("0123456789")
			for _, next := range f.specimens(e.Body) {
				next.ID, next.Rev = e.ID, e.Rev
				want := next.Clone()
				f.apply(spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})
				want.Rev, want.Size = next.Rev, int64(len(next.Header))+10-next.Skip
				f.equal("after Update", next, want)
				f.equal("by Scan", f.find(e.ID), want)
				e = next
			}
		},
	},
	{
		name: "NotRetained",
		rule: "a spool retains nothing that it is given, and what it returns is not what it keeps",
		run: func(f *fixture) {
			w := f.stage("0123456789")
			e := f.specimens(w.ID())[1]
			f.ok(w.Commit(f.ctx, e), "Commit")
			want := e.Clone()
			scribble(e)
			f.equal("after the entry that was committed is changed", f.find(want.ID), want)
			scribble(f.find(want.ID))
			f.equal("after what Scan returned is changed", f.find(want.ID), want)
			next := want.Clone()
			next.Attempts++
			f.apply(unit(spool.Update, next))
			want = next.Clone()
			scribble(next)
			f.equal("after the entry that was updated is changed", f.find(want.ID), want)
			got := f.one(want.ID)
			rev := got.Rev
			scribble(got)
			got = f.find(want.ID)
			want.Rev = got.Rev
			f.equal("after what Claim returned is changed", got, want)
			want.Rev = rev
			f.apply(unit(spool.Remove, want))
		},
	},
}

// specimens returns entries that have something in every field, or nothing in
// any that may be empty.
func (f *fixture) specimens(body spool.ID) []*spool.Entry {
	us := f.now.Add(123_456 * time.Microsecond)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	long := strings.Repeat("långt värde ", 2000)
	recipients := make([]spool.Recipient, 500)
	for i := range recipients {
		recipients[i].Address = "someone.with.a.name@a.domain.example"
	}
	return []*spool.Entry{
		{ID: spool.NewID(), Body: body, Queue: "q", Class: "-"},
		{
			ID: spool.NewID(), Body: body, Queue: "campaign:tenant@exämple.com!routing", Class: "192.0.2.0/24", State: spool.Held,
			Due: us.In(time.FixedZone("", 3600)), Received: us.UTC(), Expires: time.Date(2200, 2, 3, 4, 5, 6, 7000, time.UTC),
			Attempts: 12, Interrupted: 3,
			Envelope: spool.Envelope{
				Sender: "jörg@exämple.com",
				Recipients: []spool.Recipient{
					{Address: "a@example.com", Notify: []string{"SUCCESS", "DELAY"}, ORcpt: "rfc822;x@example.org"},
					{Address: "b@example.com", Notify: []string{"NEVER"}},
				},
				SMTPUTF8: true, RequireTLS: true, Body: "BINARYMIME", Ret: "HDRS", EnvID: "QQ314159",
			},
			Meta:   map[string]string{"tenant": "mieter", "empty": "", "": "no name", "ключ": "значение\r\n"},
			Header: every, Skip: 4,
			LastError: "421 4.7.0 línea\nund noch eine", Outcome: every,
		},
		{
			ID: spool.NewID(), Body: body, Queue: long, Class: long, State: spool.Final,
			Due: us, Received: us, Expires: us,
			Attempts: 1 << 30, Interrupted: 1 << 30,
			Envelope: spool.Envelope{Sender: long, Recipients: recipients, Ret: "FULL", Body: "8BITMIME", EnvID: long},
			Meta:     map[string]string{long: long},
			Header:   bytes.Repeat(every, 400), Skip: 10,
			LastError: long, Outcome: bytes.Repeat(every, 400),
		},
		{
			ID: spool.NewID(), Body: body, Queue: "q", Class: "-",
			Envelope: spool.Envelope{Recipients: []spool.Recipient{}},
			Meta:     map[string]string{}, Header: []byte{}, Outcome: []byte{},
		},
	}
}

// equal compares two entries field by field.
func (f *fixture) equal(when string, got, want *spool.Entry) {
	f.t.Helper()
	if got == nil {
		f.fail("%s: entry %s is not there", when, want.ID)
	}
	g, w := plain(got), plain(want)
	gv, wv := reflect.ValueOf(*g), reflect.ValueOf(*w)
	for i := range gv.NumField() {
		if !reflect.DeepEqual(gv.Field(i).Interface(), wv.Field(i).Interface()) {
			f.fail("%s: Entry.%s: got %.300q, want %.300q", when, gv.Type().Field(i).Name, gv.Field(i).Interface(), wv.Field(i).Interface())
		}
	}
}

// plain returns a copy in which what a spool need not tell apart is the same:
// nil and empty, and the ways to write one instant.
func plain(e *spool.Entry) *spool.Entry {
	e = e.Clone()
	for _, t := range []*time.Time{&e.Due, &e.Received, &e.Expires} {
		if t.IsZero() {
			*t = time.Time{}
			continue
		}
		*t = t.UTC().Round(0)
	}
	e.Meta = maps.Collect(maps.All(e.Meta))
	e.Header = append([]byte{}, e.Header...)
	e.Outcome = append([]byte{}, e.Outcome...)
	e.Envelope.Recipients = append([]spool.Recipient{}, e.Envelope.Recipients...)
	for i := range e.Envelope.Recipients {
		if r := &e.Envelope.Recipients[i]; len(r.Notify) == 0 {
			r.Notify = nil
		}
	}
	return e
}

// scribble changes whatever of an entry could be shared.
func scribble(e *spool.Entry) {
	e.Queue, e.Attempts, e.LastError, e.Due = "scribbled", -1, "scribbled", time.Time{}
	e.Envelope.Sender = "scribbled"
	for i := range e.Envelope.Recipients {
		r := &e.Envelope.Recipients[i]
		r.Address = "scribbled"
		for j := range r.Notify {
			r.Notify[j] = "scribbled"
		}
	}
	for k := range e.Meta {
		e.Meta[k] = "scribbled"
	}
	e.Meta["scribbled"] = ""
	for _, b := range [][]byte{e.Header, e.Outcome} {
		for i := range b {
			b[i] = '!'
		}
	}
}
