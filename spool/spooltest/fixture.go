package spooltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A fixture is one spool under test and what the tests do with it. Failures of
// its methods end the test, and quote the rule that the test is about.
type fixture struct {
	t    *testing.T
	h    Harness
	rule string
	sp   spool.Spool
	ctx  context.Context
	now  time.Time // when the test began, as every store can keep it
}

func newFixture(t *testing.T, h Harness, rule string) *fixture {
	f := &fixture{
		t: t, h: h, rule: rule,
		ctx: t.Context(),
		now: time.Now().Truncate(time.Millisecond),
	}
	f.sp = h.Open(t)
	if f.sp == nil {
		t.Fatal("spooltest: Harness.Open returned nil")
	}
	t.Cleanup(func() { f.sp.Close() }) // whichever value is the current one by then
	return f
}

// on returns a fixture that does the same on another value.
func (f *fixture) on(sp spool.Spool) *fixture {
	other := *f
	other.sp = sp
	return &other
}

// fail ends the test.
func (f *fixture) fail(format string, args ...any) {
	f.t.Helper()
	f.t.Fatalf(format+"\nthe rule: %s", append(args, f.rule)...)
}

// ok ends the test if err is not nil.
func (f *fixture) ok(err error, doing string) {
	f.t.Helper()
	if err != nil {
		f.fail("%s: %v", doing, err)
	}
}

// is ends the test if err is none of want.
func (f *fixture) is(err error, doing string, want ...error) {
	f.t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	f.fail("%s: got error %v, want %v", doing, err, want)
}

// stage creates a Writer and writes body into it, in pieces. It is aborted
// when the test ends.
func (f *fixture) stage(body string) spool.Writer {
	f.t.Helper()
	w := f.create(body)
	f.t.Cleanup(func() { w.Abort() })
	return w
}

// create is stage, and leaves it to the caller to commit or to abort.
func (f *fixture) create(body string) spool.Writer {
	f.t.Helper()
	w, err := f.sp.Create(f.ctx, int64(len(body)))
	f.ok(err, "Create")
	f.write(w, body)
	return w
}

func (f *fixture) write(w io.Writer, body string) {
	f.t.Helper()
	const piece = 100_000
	buf := make([]byte, piece)
	for len(body) > 0 {
		n := copy(buf, body)
		wrote, err := w.Write(buf[:n])
		f.ok(err, "Write")
		if wrote != n {
			f.fail("Write: wrote %d of %d bytes without an error", wrote, n)
		}
		clear(buf) // a Writer must not retain it
		body = body[n:]
	}
}

// entry returns an entry that is due, for a body.
func (f *fixture) entry(body spool.ID) *spool.Entry {
	return &spool.Entry{
		ID: spool.NewID(), Body: body, Queue: "queue", Class: "class",
		Due: f.now.Add(-time.Minute), Received: f.now.Add(-time.Minute),
		Envelope: spool.Envelope{
			Sender:     "sender@example.com",
			Recipients: []spool.Recipient{{Address: "rcpt@example.net"}},
		},
	}
}

// owned commits one entry with a body, changed by edit before, and returns it.
func (f *fixture) owned(body string, edit ...func(*spool.Entry)) *spool.Entry {
	f.t.Helper()
	w := f.stage(body)
	e := f.entry(w.ID())
	for _, fn := range edit {
		fn(e)
	}
	f.ok(w.Commit(f.ctx, e), "Commit")
	return e
}

// free is owned, and gives the entry back.
func (f *fixture) free(body string, edit ...func(*spool.Entry)) *spool.Entry {
	f.t.Helper()
	e := f.owned(body, edit...)
	f.apply(spool.Unit{{Op: spool.Release, Entry: e}})
	return e
}

// fill stores n entries on one body that nobody owns, changed by edit before.
func (f *fixture) fill(n int, edit func(i int, e *spool.Entry)) []*spool.Entry {
	f.t.Helper()
	w := f.stage("a body")
	all := make([]*spool.Entry, n)
	var u spool.Unit
	for i := range all {
		all[i] = f.entry(w.ID())
		if edit != nil {
			edit(i, all[i])
		}
		u = append(u, spool.Change{Op: spool.Insert, Entry: all[i], Stage: w})
		if len(u) == 500 || i == n-1 {
			f.apply(u)
			u = nil
		}
	}
	return all
}

// apply applies units that must all succeed.
func (f *fixture) apply(units ...spool.Unit) {
	f.t.Helper()
	if errs := f.sp.Apply(f.ctx, units...); errs != nil {
		f.fail("Apply: %v", errors.Join(errs...))
	}
}

// try applies one unit and returns its error.
func (f *fixture) try(u spool.Unit) error {
	f.t.Helper()
	errs := f.sp.Apply(f.ctx, u)
	if errs == nil {
		return nil
	}
	if len(errs) != 1 || errs[0] == nil {
		f.fail("Apply of one unit: got errs %v, want nil or one error per unit", errs)
	}
	return errs[0]
}

// claim claims what req selects; a zero Due or Limit is filled in.
func (f *fixture) claim(req spool.ClaimRequest) []*spool.Entry {
	f.t.Helper()
	entries, _ := f.claimNext(req)
	return entries
}

func (f *fixture) claimNext(req spool.ClaimRequest) ([]*spool.Entry, time.Time) {
	f.t.Helper()
	if req.Due.IsZero() {
		req.Due = f.now
	}
	if req.Limit == 0 {
		req.Limit = 1000
	}
	entries, next, err := f.sp.Claim(f.ctx, req)
	f.ok(err, "Claim")
	return entries, next
}

// one claims the entry with this ID, which must be claimable.
func (f *fixture) one(id spool.ID) *spool.Entry {
	f.t.Helper()
	entries := f.claim(spool.ClaimRequest{IDs: []spool.ID{id}})
	if len(entries) != 1 || entries[0].ID != id {
		f.fail("Claim of the ID %s: got %v, want that entry", id, ids(entries))
	}
	return entries[0]
}

// claims checks which entries a request claims, in this order.
func (f *fixture) claims(what string, req spool.ClaimRequest, want ...*spool.Entry) {
	f.t.Helper()
	f.same(what, f.claim(req), want)
}

// same checks that two lists have the same IDs in the same order.
func (f *fixture) same(what string, got, want []*spool.Entry) {
	f.t.Helper()
	g, w := ids(got), ids(want)
	if slices.Equal(g, w) {
		return
	}
	first := 0
	for first < min(len(g), len(w)) && g[first] == w[first] {
		first++
	}
	const most = 10 // of what differs
	g, w = g[first:min(len(g), first+most)], w[first:min(len(w), first+most)]
	f.fail("%s: got %d entries, want %d; from the %dth on they are %v, want %v", what, len(got), len(want), first, g, w)
}

// stored returns all stored entries by a Scan.
func (f *fixture) stored() []*spool.Entry {
	f.t.Helper()
	return f.scan(spool.Query{})
}

func (f *fixture) scan(q spool.Query) (entries []*spool.Entry) {
	f.t.Helper()
	for e, err := range f.sp.Scan(f.ctx, q) {
		f.ok(err, "Scan")
		entries = append(entries, e)
	}
	return entries
}

// index returns all stored entries by their IDs.
func (f *fixture) index() map[spool.ID]*spool.Entry {
	f.t.Helper()
	entries := make(map[spool.ID]*spool.Entry)
	for _, e := range f.stored() {
		entries[e.ID] = e
	}
	return entries
}

// find returns a stored entry, nil if it is not there.
func (f *fixture) find(id spool.ID) *spool.Entry {
	f.t.Helper()
	e, err := f.look(id)
	f.ok(err, "Scan")
	return e
}

// look is find for any goroutine.
func (f *fixture) look(id spool.ID) (*spool.Entry, error) {
	before := id
	for i := len(before) - 1; i >= 0; i-- {
		before[i]--
		if before[i] != 0xff {
			break
		}
	}
	for e, err := range f.sp.Scan(f.ctx, spool.Query{After: before}) {
		if err != nil || e.ID == id {
			return e, err
		}
		break
	}
	return nil, nil
}

// has checks that a stored body is what was written.
func (f *fixture) has(id spool.ID, want string) {
	f.t.Helper()
	b, err := f.sp.Open(f.ctx, id)
	f.ok(err, "Open of a stored body")
	f.reads(b, want)
}

// reads checks what a Body holds from its start, and closes it.
func (f *fixture) reads(b spool.Body, want string) {
	f.t.Helper()
	if b.Size() != int64(len(want)) {
		f.fail("Body.Size: got %d, want %d", b.Size(), len(want))
	}
	_, err := b.Seek(0, io.SeekStart)
	f.ok(err, "Body.Seek to the start")
	got, err := io.ReadAll(b)
	f.ok(err, "reading a body")
	if !bytes.Equal(got, []byte(want)) {
		f.fail("a body of %d bytes reads differently: got %d bytes %.60q, want %.60q", len(want), len(got), got, want)
	}
	f.ok(b.Close(), "Body.Close")
}

// lacks checks that a body is not stored.
func (f *fixture) lacks(id spool.ID, when string) {
	f.t.Helper()
	b, err := f.sp.Open(f.ctx, id)
	if err == nil {
		b.Close()
	}
	f.is(err, "Open of a body "+when, spool.ErrNotFound)
}

// reopen closes the spool and opens its store anew.
func (f *fixture) reopen() {
	f.t.Helper()
	if err := f.sp.Close(); err != nil {
		f.t.Logf("Close: %v", err) // after a failure it may say so
	}
	f.sp = f.h.Reopen(f.t, f.sp)
}

// crash ends the spool without Close and opens its store anew.
func (f *fixture) crash() {
	f.t.Helper()
	f.sp = f.h.Crash(f.t, f.sp)
}

// second returns a fixture on another owner of the store.
func (f *fixture) second() *fixture {
	f.t.Helper()
	sp := f.h.Second(f.t, f.sp)
	f.t.Cleanup(func() { sp.Close() })
	return f.on(sp)
}

// quiet takes the hints that have come.
func (f *fixture) quiet() {
	for {
		select {
		case <-f.sp.Changed():
		default:
			return
		}
	}
}

// hinted waits for a hint.
func (f *fixture) hinted(after string) {
	f.t.Helper()
	select {
	case _, open := <-f.sp.Changed():
		if !open {
			f.fail("Changed was closed")
		}
	case <-time.After(10 * time.Second):
		f.fail("no hint on Changed within 10 s after %s", after)
	}
}

// describe shows an entry in one line, without what is long.
func describe(e *spool.Entry) string {
	return fmt.Sprintf("entry %s at %d: body %s, queue %q, class %q, %v, due %v, attempts %d, interrupted %d, %d recipients, header of %d, skip %d, size %d, %q",
		e.ID, e.Rev, e.Body, e.Queue, e.Class, e.State, e.Due, e.Attempts, e.Interrupted, len(e.Envelope.Recipients), len(e.Header), e.Skip, e.Size, e.LastError)
}

func ids(entries []*spool.Entry) []spool.ID {
	list := make([]spool.ID, len(entries))
	for i, e := range entries {
		list[i] = e.ID
	}
	return list
}

// byID returns the entries in the order of their IDs.
func byID(entries ...*spool.Entry) []*spool.Entry {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b *spool.Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return entries
}

// unit returns a unit of one change.
func unit(op spool.Op, e *spool.Entry) spool.Unit { return spool.Unit{{Op: op, Entry: e}} }
