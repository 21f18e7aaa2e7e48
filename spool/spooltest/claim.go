package spooltest

import (
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var claimTests = []conformanceTest{
	{
		name: "Order",
		rule: "Claim takes entries that are due at or before Due, the longest due first",
		run: func(f *fixture) {
			var all []*spool.Entry
			for _, n := range []int{3, 1, 4, 0, 5, 2} { // minutes
				all = append(all, f.freeIn("queue", "class", -time.Duration(n)*time.Minute))
			}
			f.freeIn("queue", "class", time.Millisecond)
			slices.SortFunc(all, func(a, b *spool.Entry) int { return a.Due.Compare(b.Due) })
			f.claims("Claim of all that is due", spool.ClaimRequest{}, all...)
		},
	},
	{
		name: "OrderAcross",
		rule: "the longest due come first, in whatever queue and class they are",
		run: func(f *fixture) {
			var all []*spool.Entry
			for n := range 24 {
				queue, class := string(rune('a'+n%4)), string(rune('k'+n%3))
				all = append(all, f.freeIn(queue, class, -time.Duration(n*7%24+1)*time.Second))
			}
			slices.SortFunc(all, func(a, b *spool.Entry) int { return a.Due.Compare(b.Due) })
			for len(all) > 0 {
				n := min(5, len(all))
				f.claims("Claim of five", spool.ClaimRequest{Limit: 5}, all[:n]...)
				all = all[n:]
			}
		},
	},
	{
		name: "Limit",
		rule: "Claim takes up to Limit entries, none if it is not positive; each entry has one owner",
		run: func(f *fixture) {
			a, b, c := f.freeIn("queue", "class", -3*time.Minute), f.freeIn("queue", "class", -2*time.Minute), f.freeIn("queue", "class", -time.Minute)
			for _, limit := range []int{-1, 0} {
				entries, next, err := f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: limit})
				if err != nil || len(entries) > 0 || next.IsZero() || next.After(f.now) {
					f.fail("Claim with Limit %d: got %v, next %v, error %v; want no entries and a next that has passed", limit, ids(entries), next, err)
				}
			}
			f.claims("Claim with Limit 1", spool.ClaimRequest{Limit: 1}, a)
			f.claims("Claim with Limit 5", spool.ClaimRequest{Limit: 5}, b, c)
			f.claims("Claim of what is owned", spool.ClaimRequest{})
		},
	},
	{
		name: "Filters",
		rule: "Queues, Except and Class select together",
		run:  claimFilters,
	},
	{
		name: "Next",
		rule: "next says when the next entry that matches and nobody owns falls due, a time that has passed if one that is due was left, zero if there is none",
		run:  claimNext,
	},
	{
		name: "IDs",
		rule: "IDs selects just these, whatever their state or due time, and the other fields are ignored, Limit included",
		run: func(f *fixture) {
			due := f.free("due")
			future := f.freeIn("other", "other", time.Hour)
			held := f.freeAs(spool.Held)
			final := f.freeAs(spool.Final)
			owned := f.owned("owned")
			req := spool.ClaimRequest{
				Queues: []string{"none"}, Class: "none", Limit: 1,
				IDs: []spool.ID{future.ID, held.ID, owned.ID, final.ID, spool.NewID(), future.ID},
			}
			got, _ := f.claimNext(req)
			f.same("Claim by IDs", byID(got...), byID(future, held, final))
			f.apply(spool.Unit{{Op: spool.Remove, Entry: f.in(got, held)}})
			f.claims("Claim by no IDs", spool.ClaimRequest{IDs: []spool.ID{}})
			f.claims("Claim of the rest", spool.ClaimRequest{}, due)
		},
	},
	{
		name: "Held",
		rule: "a Held entry is never claimed by its due time",
		run: func(f *fixture) {
			held := f.freeAs(spool.Held)
			entries, next := f.claimNext(spool.ClaimRequest{})
			if len(entries) > 0 || !next.IsZero() {
				f.fail("Claim with nothing but a Held entry: got %v, next %v, want none and zero", ids(entries), next)
			}
			e := f.one(held.ID)
			e.State = spool.Queued
			f.apply(unit(spool.Update, e))
			f.claims("Claim of what an operator let go", spool.ClaimRequest{}, e)
		},
	},
	{
		name: "FinalFirst",
		rule: "Final entries that nobody owns come before all others, whatever Queues, Except, Class and Due say",
		run: func(f *fixture) {
			f.freeIn("queue", "class", -time.Hour)
			final := f.freeAs(spool.Final)
			later := f.freeAs(spool.Final, func(e *spool.Entry) { e.Due = f.now.Add(time.Hour) })
			_, left := f.claimNext(spool.ClaimRequest{Queues: []string{"none"}, Limit: -1})
			if left.IsZero() || left.After(f.now) {
				f.fail("Claim that left Final entries behind: got next %v, want a time that has passed", left)
			}
			got, next := f.claimNext(spool.ClaimRequest{Queues: []string{"none"}, Except: []string{"queue"}, Class: "none", Limit: 1})
			if next.IsZero() || next.After(f.now) {
				f.fail("Claim that left one of two Final entries behind: got next %v, want a time that has passed", next)
			}
			got = append(got, f.claim(spool.ClaimRequest{Limit: 1})...)
			f.same("two claims of one entry each", byID(got...), byID(final, later))
			f.apply(unit(spool.Release, f.in(got, final)))
			if got := f.claim(spool.ClaimRequest{}); len(got) != 2 || got[0].ID != final.ID {
				f.fail("Claim of a Final entry and one that is due: got %v, want %s first of two", ids(got), final.ID)
			}
		},
	},
	{
		name: "Rescheduled",
		rule: "an updated entry is claimed by its new due time, queue and class",
		run: func(f *fixture) {
			e := f.owned("a body")
			e = e.Clone()
			e.Due, e.Queue, e.Class = f.now.Add(time.Minute), "next", "other"
			f.apply(unit(spool.Update, e))
			f.claims("Claim before it is due", spool.ClaimRequest{})
			f.claims("Claim from its old queue", spool.ClaimRequest{Queues: []string{"queue"}, Due: e.Due})
			f.claims("Claim from its old class", spool.ClaimRequest{Class: "class", Due: e.Due})
			f.claims("Claim the moment it is due", spool.ClaimRequest{Queues: []string{"next"}, Class: "other", Due: e.Due}, e)
		},
	},
	{
		name: "NoDue",
		rule: "an entry is not claimed before Due: the zero time has always passed",
		run: func(f *fixture) {
			e := f.free("a body", func(e *spool.Entry) { e.Due = time.Time{} })
			later := f.free("a body")
			f.claims("Claim", spool.ClaimRequest{}, e, later)
		},
	},
}

// freeIn stores an entry that nobody owns, due in d from now.
func (f *fixture) freeIn(queue, class string, d time.Duration) *spool.Entry {
	f.t.Helper()
	return f.free("a body", func(e *spool.Entry) { e.Queue, e.Class, e.Due = queue, class, f.now.Add(d) })
}

// freeAs stores an entry in a state that nobody owns.
func (f *fixture) freeAs(s spool.State, edit ...func(*spool.Entry)) *spool.Entry {
	f.t.Helper()
	return f.free("a body", append(edit, func(e *spool.Entry) { e.State = s })...)
}

// in returns the one of entries that has the ID of e.
func (f *fixture) in(entries []*spool.Entry, e *spool.Entry) *spool.Entry {
	f.t.Helper()
	for _, got := range entries {
		if got.ID == e.ID {
			return got
		}
	}
	f.fail("entry %s is not among %v", e.ID, ids(entries))
	return nil
}

func claimFilters(f *fixture) {
	entries := make(map[string]*spool.Entry)
	for i, name := range []string{"a1", "b1", "a2", "b2", "c1", "c2"} { // queue and class
		entries[name] = f.freeIn(name[:1], name[1:], time.Duration(i-10)*time.Minute)
	}
	tests := []struct {
		what string
		req  spool.ClaimRequest
		want []string
	}{
		{"one queue", spool.ClaimRequest{Queues: []string{"b"}}, []string{"b1", "b2"}},
		{"two queues", spool.ClaimRequest{Queues: []string{"c", "a"}}, []string{"a1", "a2", "c1", "c2"}},
		{"a queue that is not there", spool.ClaimRequest{Queues: []string{"x"}}, nil},
		{"except one", spool.ClaimRequest{Except: []string{"a"}}, []string{"b1", "b2", "c1", "c2"}},
		{"except two", spool.ClaimRequest{Except: []string{"a", "b"}}, []string{"c1", "c2"}},
		{"except all", spool.ClaimRequest{Except: []string{"a", "b", "c", "x"}}, nil},
		{"queues but for one", spool.ClaimRequest{Queues: []string{"a", "b"}, Except: []string{"b"}}, []string{"a1", "a2"}},
		{"a class", spool.ClaimRequest{Class: "2"}, []string{"a2", "b2", "c2"}},
		{"a class that is not there", spool.ClaimRequest{Class: "x"}, nil},
		{"a class of one queue", spool.ClaimRequest{Queues: []string{"c"}, Class: "1"}, []string{"c1"}},
		{"a class but for one queue", spool.ClaimRequest{Except: []string{"a"}, Class: "1"}, []string{"b1", "c1"}},
		{"everything", spool.ClaimRequest{}, []string{"a1", "b1", "a2", "b2", "c1", "c2"}},
	}
	for _, test := range tests {
		var want []*spool.Entry
		for _, name := range test.want {
			want = append(want, entries[name])
		}
		got, next := f.claimNext(test.req)
		f.same("Claim of "+test.what, got, want)
		if !next.IsZero() {
			f.fail("Claim of %s: got next %v with nothing left that matches, want zero", test.what, next)
		}
		for _, e := range got {
			f.apply(unit(spool.Release, e))
		}
	}
}

func claimNext(f *fixture) {
	check := func(what string, req spool.ClaimRequest, want time.Time) {
		f.t.Helper()
		if _, next := f.claimNext(req); !next.Equal(want) {
			f.fail("%s: got next %v, want %v", what, next, want)
		}
	}
	check("Claim of an empty spool", spool.ClaimRequest{}, time.Time{})
	soon := f.freeIn("a", "1", 2*time.Minute)
	later := f.freeIn("b", "2", 3*time.Minute)
	f.freeIn("a", "1", -time.Minute)
	f.freeIn("a", "1", -time.Minute)

	_, next := f.claimNext(spool.ClaimRequest{Limit: 1})
	if next.IsZero() || next.After(f.now) {
		f.fail("Claim that left a due entry behind: got next %v, want a time that has passed", next)
	}
	check("Claim of the last that is due", spool.ClaimRequest{Limit: 1}, soon.Due)
	check("Claim of nothing", spool.ClaimRequest{}, soon.Due)
	check("Claim from queue b", spool.ClaimRequest{Queues: []string{"b"}}, later.Due)
	check("Claim but for queue a", spool.ClaimRequest{Except: []string{"a"}}, later.Due)
	check("Claim of class 2", spool.ClaimRequest{Class: "2"}, later.Due)
	check("Claim from queue c", spool.ClaimRequest{Queues: []string{"c"}}, time.Time{})
	f.one(soon.ID)
	check("Claim when the next is owned", spool.ClaimRequest{}, later.Due)
}
