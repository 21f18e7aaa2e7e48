package spooltest

import (
	"github.com/deferredqueue/deferredqueue/spool"
)

var stageTests = []conformanceTest{
	{
		name: "Invisible",
		rule: "nothing of what is staged is visible to others before it is committed",
		run: func(f *fixture) {
			w := f.stage("a body")
			if w.ID().IsZero() {
				f.fail("Writer.ID: got the zero ID, want one that is valid at once")
			}
			e := f.entry(w.ID())
			f.is(f.try(unit(spool.Insert, e)), "Insert onto a body that is only staged", spool.ErrNotFound)
			f.lacks(w.ID(), "that is only staged")
			f.same("Scan", f.stored(), nil)
			f.claims("Claim", spool.ClaimRequest{})
			f.claims("Claim by ID", spool.ClaimRequest{IDs: []spool.ID{e.ID}})
			f.infos()
		},
	},
	{
		name: "OpenStaged",
		rule: "Writer.Open reads what was written so far, staged or committed; what is written later need not be seen",
		run: func(f *fixture) {
			w := f.stage("first")
			early, err := w.Open()
			f.ok(err, "Writer.Open")
			f.write(w, ", second")
			late, err := w.Open()
			f.ok(err, "Writer.Open")
			f.prefix(early, "first", "first, second")
			f.reads(late, "first, second")
			f.ok(w.Commit(f.ctx, f.entry(w.ID())), "Commit")
			committed, err := w.Open()
			f.ok(err, "Writer.Open after Commit")
			f.reads(committed, "first, second")
		},
	},
	{
		name: "Commit",
		rule: "Commit makes body and entries durable at once, sets Rev and Size, and the new entries are owned",
		run: func(f *fixture) {
			w := f.stage("a body")
			e := f.entry(w.ID())
			e.Header, e.Skip = []byte("Subject: x\r\n"), 2
			f.ok(w.Commit(f.ctx, e), "Commit")
			if e.Rev == 0 || e.Size != int64(len(e.Header))+6-2 {
				f.fail("after Commit: Rev %d, Size %d, want Rev above 0, Size %d", e.Rev, e.Size, len(e.Header)+6-2)
			}
			f.has(w.ID(), "a body")
			f.same("Scan", f.stored(), []*spool.Entry{e})
			f.claims("Claim of what was committed just now", spool.ClaimRequest{})
			f.apply(unit(spool.Update, e)) // which only its owner can do
		},
	},
	{
		name: "SharedBody",
		rule: "the entries of one Commit share one body; each has its own Header, Skip and Size",
		run: func(f *fixture) {
			w := f.stage("a body")
			a, b := f.entry(w.ID()), f.entry(w.ID())
			b.Header, b.Skip = []byte("X: y\r\n"), 6
			f.ok(w.Commit(f.ctx, a, b), "Commit")
			if a.Size != 6 || b.Size != 6 || a.Body != b.Body {
				f.fail("got sizes %d and %d, bodies %s and %s; want sizes 6 and 6, one body", a.Size, b.Size, a.Body, b.Body)
			}
			f.alike(byID(a, b))
		},
	},
	{
		name: "CommitExists",
		rule: "after an error other than ErrAmbiguous nothing was applied, and Commit may be called again",
		run: func(f *fixture) {
			old := f.owned("old")
			w := f.stage("new")
			fresh, clash := f.entry(w.ID()), f.entry(w.ID())
			clash.ID = old.ID
			f.is(w.Commit(f.ctx, fresh, clash), "Commit of an ID that is stored", spool.ErrExists)
			f.same("Scan after a failed Commit", f.stored(), []*spool.Entry{old})
			f.lacks(w.ID(), "whose Commit failed")
			f.ok(w.Commit(f.ctx, fresh), "second Commit of the same Writer")
			f.has(w.ID(), "new")
			f.same("Scan", f.stored(), byID(old, fresh))
		},
	},
	{
		name: "CommitOtherBody",
		rule: "the Body of each entry of a Commit must be the Writer's ID",
		run: func(f *fixture) {
			old := f.owned("old")
			w := f.stage("new")
			if err := w.Commit(f.ctx, f.entry(old.Body)); err == nil {
				f.fail("Commit of an entry that refers to another body: got no error")
			}
			f.same("Scan after a failed Commit", f.stored(), []*spool.Entry{old})
			f.lacks(w.ID(), "whose Commit failed")
		},
	},
	{
		name: "Abort",
		rule: "Abort discards what was staged",
		run: func(f *fixture) {
			w := f.stage("a body")
			f.ok(w.Abort(), "Abort")
			f.lacks(w.ID(), "that was aborted")
			if err := w.Commit(f.ctx, f.entry(w.ID())); err == nil {
				f.fail("Commit after Abort: got no error")
			}
			f.same("Scan", f.stored(), nil)
		},
	},
	{
		name: "AbortCommitted",
		rule: "Abort has no effect once a Commit or an Apply succeeded, and may be deferred right after Create",
		run: func(f *fixture) {
			w, v := f.stage("by Commit"), f.stage("by Apply")
			f.ok(w.Commit(f.ctx, f.entry(w.ID())), "Commit")
			f.apply(spool.Unit{{Op: spool.Insert, Entry: f.entry(v.ID()), Stage: v}})
			w.Abort()
			v.Abort()
			f.has(w.ID(), "by Commit")
			f.has(v.ID(), "by Apply")
		},
	},
	{
		name: "SeveralWriters",
		rule: "a Writer is not for concurrent use, but several Writers are: none gets what another was given",
		run: func(f *fixture) {
			a, b := f.stage("a1 "), f.stage("b1 ")
			f.write(b, "b2")
			f.write(a, "a2")
			if a.ID() == b.ID() {
				f.fail("two Writers have the same ID %s", a.ID())
			}
			f.ok(b.Commit(f.ctx, f.entry(b.ID())), "Commit")
			f.write(a, " a3")
			f.ok(a.Commit(f.ctx, f.entry(a.ID())), "Commit")
			f.has(a.ID(), "a1 a2 a3")
			f.has(b.ID(), "b1 b2")
		},
	},
}

// prefix checks that b holds at least what was written before it was opened,
// and at most what was written since.
func (f *fixture) prefix(b spool.Body, least, most string) {
	f.t.Helper()
	defer b.Close()
	buf := make([]byte, len(most))
	n, _ := b.ReadAt(buf, 0) // io.EOF where nothing later is seen
	if n < len(least) || string(buf[:n]) != most[:n] {
		f.fail("a body opened while it is staged: got %q, want %q or more of %q", buf[:n], least, most)
	}
}
