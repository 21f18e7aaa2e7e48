package spooltest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
)

var manyTests = []conformanceTest{
	{
		name: "Unit",
		rule: "a unit of thousands of entries on one body is applied whole: each comes back as it was stored, whatever they have in common",
		run: func(f *fixture) {
			all := f.many(3000)
			f.alike(all)
			f.infos(spool.QueueInfo{Queue: "queue", Class: "class", Entries: 3000, Bytes: sizesOf(all), Oldest: all[0].Received, NextDue: all[0].Due})
			got := f.claim(spool.ClaimRequest{Limit: 5000})
			f.same("Claim of all", byID(got...), all)
			f.apply(removal(got))
			f.same("Scan", f.stored(), nil)
			f.lacks(all[0].Body, "whose last entry was removed")
		},
	},
	{
		name: "Exists",
		rule: "a unit is applied whole or not at all, however many entries it has",
		run: func(f *fixture) {
			old := f.owned("old")
			w := f.stage("a body")
			var entries []*spool.Entry
			for range 2000 {
				entries = append(entries, f.entry(w.ID()))
			}
			fresh := entries[1999].ID
			entries[1999].ID = old.ID
			f.is(w.Commit(f.ctx, entries...), "Commit of 2000 entries of which the last is stored already", spool.ErrExists)
			f.same("Scan", f.stored(), []*spool.Entry{old})
			f.lacks(w.ID(), "whose Commit failed")
			entries[1999].ID = fresh
			f.ok(w.Commit(f.ctx, entries...), "Commit of 2000 entries")
			f.same("Scan", f.stored(), byID(append(entries, old)...))
		},
	},
	{
		name: "Orders",
		rule: "each entry has its own part of what it shares with others: those that stay read the same, in whatever order the others go",
		run:  func(f *fixture) { f.manyOrders(func() {}) },
	},
	{
		name:  "Reopen",
		needs: []string{"Reopen"},
		rule:  "each entry has its own part of what it shares with others, also when the spool is opened anew while they go",
		run:   func(f *fixture) { f.manyOrders(f.reopen) },
	},
	{
		name:  "Crash",
		needs: []string{"Crash"},
		rule:  "each entry has its own part of what it shares with others, also when the process dies while they go",
		run:   func(f *fixture) { f.manyOrders(f.crash) },
	},
	{
		name: "Diverge",
		rule: "Update replaces the stored entry: what it shared with others stays theirs",
		run: func(f *fixture) {
			all := f.many(600)
			var u spool.Unit
			for n, e := range f.claim(spool.ClaimRequest{Limit: 600}) {
				next := e.Clone()
				switch n % 4 {
				case 0:
					next.Header = append(next.Header, "X-Own: yes\r\n"...)
				case 1:
					next.Meta["tenant"] = fmt.Sprint("tenant ", n)
				case 2:
					next.Envelope.Sender, next.Header = "", nil
				case 3:
					next.LastError, next.Attempts = fmt.Sprint("421 try ", n), 1
				}
				if u = append(u, spool.Change{Op: spool.Update, Entry: next}); len(u) == 5 {
					f.apply(u)
					u = nil
				}
				all[slices.IndexFunc(all, func(e *spool.Entry) bool { return e.ID == next.ID })] = next
			}
			f.alike(all)
		},
	},
}

// many stores n entries in one unit, as the batches of one message with many
// recipients are, and returns them in the order of their IDs.
func (f *fixture) many(n int) []*spool.Entry {
	f.t.Helper()
	w := f.stage("one body for all")
	shared := "Received: from client.example (192.0.2.1)\r\n\tby host.example with ESMTP; now\r\n" + strings.Repeat("X-Trace: the same\r\n", 20)
	all := make([]*spool.Entry, n)
	u := make(spool.Unit, n)
	for i := range all {
		e := f.entry(w.ID())
		e.Envelope.Recipients[0].Address = fmt.Sprintf("rcpt-%d@example.net", i)
		e.Header = fmt.Appendf(nil, "X-Id: %s\r\n%sX-Rcpt: %d\r\n", e.ID, shared, i)
		e.Skip = int64(i % 4)
		e.Meta = map[string]string{"tenant": "a tenant", "session_id": "the same for all", "ehlo_domain": "client.example"}
		if i%100 == 99 { // and some that are not like the others
			e.Meta["n"], e.Envelope.RequireTLS, e.Expires = fmt.Sprint(i), true, f.now.AddDate(0, 0, i)
		}
		all[i] = e
		u[i] = spool.Change{Op: spool.Insert, Entry: e, Stage: w}
	}
	f.apply(u)
	return byID(all...)
}

// alike checks that exactly these entries are stored, each as it is.
func (f *fixture) alike(want []*spool.Entry) {
	f.t.Helper()
	got := f.stored()
	f.same("Scan", got, want)
	for i := range got {
		w := want[i].Clone()
		w.Rev = got[i].Rev // which ownership may have changed
		f.equal("by Scan", got[i], w)
	}
}

func (f *fixture) manyOrders(restart func()) {
	f.t.Helper()
	const n, step = 400, 100
	orders := []struct {
		name string
		sort func([]*spool.Entry)
	}{
		{"first to last", func([]*spool.Entry) {}},
		{"last to first", slices.Reverse[[]*spool.Entry]},
		{"shuffled", func(all []*spool.Entry) {
			rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}},
		{"odd before even", func(all []*spool.Entry) {
			odd, even := []*spool.Entry{}, []*spool.Entry{}
			for i, e := range all {
				if i%2 == 1 {
					odd = append(odd, e)
				} else {
					even = append(even, e)
				}
			}
			copy(all, append(odd, even...))
		}},
	}
	for _, order := range orders {
		all := f.many(n)
		body := all[0].Body
		order.sort(all)
		for len(all) > 0 {
			got := f.claim(spool.ClaimRequest{IDs: ids(all[:step])})
			f.same("Claim of what goes, "+order.name, byID(got...), byID(all[:step]...))
			f.apply(removal(got))
			all = all[step:]
			restart()
			f.alike(byID(all...))
			if len(all) > 0 {
				f.has(body, "one body for all")
			}
		}
		f.lacks(body, "whose last entry was removed, "+order.name)
	}
}

func sizesOf(entries []*spool.Entry) (sum int64) {
	for _, e := range entries {
		sum += e.Size
	}
	return sum
}

// removal returns one unit that removes entries.
func removal(entries []*spool.Entry) spool.Unit {
	u := make(spool.Unit, len(entries))
	for i, e := range entries {
		u[i] = spool.Change{Op: spool.Remove, Entry: e}
	}
	return u
}
