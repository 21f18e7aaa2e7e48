package spooltest

import (
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var scanTests = []conformanceTest{
	{
		name: "Order",
		rule: "Scan yields entries, owned or not, in the order of their IDs",
		run: func(f *fixture) {
			a, b, c := f.owned("a"), f.free("b"), f.freeAs(spool.Held)
			d, e := f.freeAs(spool.Final), f.freeIn("queue", "class", time.Hour)
			low := f.entry(a.Body)
			low.ID = spool.ID{6: 0x70, 8: 0x80, 15: 1} // before every other
			f.apply(spool.Unit{{Op: spool.Insert, Entry: low}})
			f.same("Scan", f.stored(), byID(a, b, c, d, e, low))
		},
	},
	{
		name: "Query",
		rule: "Queue selects one queue, After only IDs that are greater",
		run: func(f *fixture) {
			var all, odd []*spool.Entry
			for n := range 6 {
				e := f.freeIn([]string{"even", "odd"}[n%2], "class", 0)
				all = append(all, e)
				if n%2 == 1 {
					odd = append(odd, e)
				}
			}
			all, odd = byID(all...), byID(odd...)
			f.same("Scan of one queue", f.scan(spool.Query{Queue: "odd"}), odd)
			f.same("Scan of a queue that is not there", f.scan(spool.Query{Queue: "x"}), nil)
			f.same("Scan after the third", f.scan(spool.Query{After: all[2].ID}), all[3:])
			f.same("Scan after the last", f.scan(spool.Query{After: all[5].ID}), nil)
			f.same("Scan of one queue after its first", f.scan(spool.Query{Queue: "odd", After: odd[0].ID}), odd[1:])
			between := all[2].ID
			between[15]++
			if between[15] != 0 && between != all[3].ID {
				f.same("Scan after an ID that is not stored", f.scan(spool.Query{After: between}), all[3:])
			}
		},
	},
	{
		name: "Unlocked",
		rule: "Scan and Queues hold no lock between entries, and may be left early",
		run: func(f *fixture) {
			for range 3 {
				f.free("a body")
			}
			seen := 0
			for e, err := range f.sp.Scan(f.ctx, spool.Query{}) {
				f.ok(err, "Scan")
				f.apply(unit(spool.Remove, f.one(e.ID)))
				f.owned("another")
				seen++
				if seen == 2 {
					break
				}
			}
			for _, err := range f.sp.Queues(f.ctx) {
				f.ok(err, "Queues")
				f.owned("another")
				break
			}
			if n := len(f.stored()); n != 4 {
				f.fail("after 2 of 3 entries were removed and 3 added: got %d, want 4", n)
			}
		},
	},
}

var queuesTests = []conformanceTest{
	{
		name: "Counts",
		rule: "Queues yields one QueueInfo for each queue, class and state of which there are entries, owned or not",
		run: func(f *fixture) {
			f.infos()
			old := f.now.Add(-24 * time.Hour)
			f.free("12345")
			f.owned("123", func(e *spool.Entry) {
				e.Header, e.Due, e.Received = []byte("1234"), f.now.Add(-time.Hour), old
			})
			f.freeIn("queue", "other", time.Hour)
			f.freeIn("another", "class", time.Hour)
			f.freeAs(spool.Held)
			f.freeAs(spool.Final)
			minute := f.now.Add(-time.Minute) // what an entry is due by unless changed
			f.infos(
				spool.QueueInfo{Queue: "queue", Class: "class", Entries: 2, Bytes: 5 + 7, Oldest: old, NextDue: minute},
				spool.QueueInfo{Queue: "queue", Class: "other", Entries: 1, Bytes: 6, Oldest: minute, NextDue: f.now.Add(time.Hour)},
				spool.QueueInfo{Queue: "another", Class: "class", Entries: 1, Bytes: 6, Oldest: minute, NextDue: f.now.Add(time.Hour)},
				spool.QueueInfo{Queue: "queue", Class: "class", State: spool.Held, Entries: 1, Bytes: 6, Oldest: minute, NextDue: minute},
				spool.QueueInfo{Queue: "queue", Class: "class", State: spool.Final, Entries: 1, Bytes: 6, Oldest: minute, NextDue: minute},
			)
		},
	},
	{
		name: "Follow",
		rule: "the counts follow every change; NextDue is zero when all are owned; what has no entries is not yielded",
		run: func(f *fixture) {
			w := f.stage("123456")
			a, b := f.entry(w.ID()), f.entry(w.ID())
			f.ok(w.Commit(f.ctx, a, b), "Commit")
			info := spool.QueueInfo{Queue: "queue", Class: "class", Entries: 2, Bytes: 12, Oldest: a.Received}
			f.infos(info) // a shared body counts for each
			f.apply(unit(spool.Release, a))
			info.NextDue = a.Due
			f.infos(info)
			a = f.one(a.ID)
			info.NextDue = time.Time{}
			f.infos(info)
			a.Queue, a.Skip = "next", 2
			f.apply(spool.Unit{{Op: spool.Update, Entry: a, Keep: true}})
			info.Entries, info.Bytes = 1, 6
			next := spool.QueueInfo{Queue: "next", Class: "class", Entries: 1, Bytes: 4, Oldest: a.Received}
			f.infos(info, next)
			f.apply(unit(spool.Remove, b))
			f.infos(next)
			f.apply(unit(spool.Remove, a))
			f.infos()
		},
	},
}

// infos checks what Queues yields.
func (f *fixture) infos(want ...spool.QueueInfo) {
	f.t.Helper()
	type key struct {
		queue, class string
		state        spool.State
	}
	got := make(map[key]spool.QueueInfo)
	for info, err := range f.sp.Queues(f.ctx) {
		f.ok(err, "Queues")
		k := key{info.Queue, info.Class, info.State}
		if _, twice := got[k]; twice {
			f.fail("Queues: yielded %v twice", k)
		}
		got[k] = info
	}
	for _, w := range want {
		g, found := got[key{w.Queue, w.Class, w.State}]
		switch {
		case !found:
			f.fail("Queues: queue %q, class %q, %v is missing among %v", w.Queue, w.Class, w.State, got)
		case g.Entries != w.Entries || g.Bytes != w.Bytes || !g.NextDue.Equal(w.NextDue):
			f.fail("Queues: got %+v, want %+v", g, w)
		case g.Oldest.After(w.Oldest):
			f.fail("Queues: got Oldest %v, want the earliest Received %v or a time before it", g.Oldest, w.Oldest)
		}
	}
	if len(got) != len(want) {
		f.fail("Queues: got %v, want %d of them", got, len(want))
	}
}
