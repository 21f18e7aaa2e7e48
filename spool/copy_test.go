package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// copySize is the length of the body of message n.
func copySize(n int) int {
	if n%20 == 19 {
		return 200_000
	}
	return []int{0, 10, 1000, 5000}[n%4]
}

// fillCopy stores entries of every state, on bodies of their own and shared
// ones, some owned, and returns the number of entries and of bodies.
func fillCopy(t *testing.T, sp spool.Spool) (entries, bodies int) {
	t.Helper()
	now := time.Now().Truncate(time.Millisecond)
	for n := range 100 {
		w, err := sp.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		size := copySize(n)
		if _, err := w.Write(bytes.Repeat([]byte{byte(n)}, size)); err != nil {
			t.Fatal(err)
		}
		var u spool.Unit
		for range 1 + n%3 {
			e := &spool.Entry{
				ID: spool.NewID(), Body: w.ID(), Queue: fmt.Sprint("queue ", n%4), Class: fmt.Sprint("class ", n%3),
				State: spool.State(n % 3), Due: now.Add(time.Duration(n-50) * time.Hour), Received: now, Expires: now.AddDate(0, 0, n),
				Attempts: n, Interrupted: n % 3,
				Envelope: spool.Envelope{Sender: "a@example.com", Recipients: []spool.Recipient{{Address: "b@example.net", Notify: []string{"NEVER"}}}, RequireTLS: n%2 == 0},
				Meta:     map[string]string{"n": fmt.Sprint(n)}, Header: []byte("X-N: 1\r\n"), Skip: int64(size / 2),
				LastError: "421 later",
			}
			if e.State == spool.Final {
				e.Outcome = fmt.Append(nil, "record ", n)
			}
			u = append(u, spool.Change{Op: spool.Insert, Entry: e, Stage: w})
			entries++
		}
		if errs := sp.Apply(t.Context(), u); errs != nil {
			t.Fatal(errs)
		}
		bodies++
	}
	// Some that share a body were made long after it.
	for e, err := range sp.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Attempts%10 == 7 {
			late := e.Clone()
			late.ID = spool.NewID()
			if errs := sp.Apply(t.Context(), spool.Unit{{Op: spool.Insert, Entry: late}}); errs != nil {
				t.Fatal(errs)
			}
			entries++
		}
		if late := e.Attempts == 99; late {
			break
		}
	}
	return entries, bodies
}

// A copied is what a store holds: all but Rev of each entry, and the text of its
// body in the place of its ID.
type copied struct {
	e    spool.Entry
	text string
}

// holds returns what a spool holds, and how many bodies.
func holds(t *testing.T, sp spool.Spool) (all map[spool.ID]copied, bodies int) {
	t.Helper()
	all = make(map[spool.ID]copied)
	texts := make(map[spool.ID]string)
	for e, err := range sp.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		text, known := texts[e.Body]
		if !known {
			text = bodyText(t, sp, e.Body)
			texts[e.Body] = text
		}
		c := copied{*e.Clone(), text}
		c.e.Body, c.e.Rev = spool.ID{}, 0
		for _, at := range []*time.Time{&c.e.Due, &c.e.Received, &c.e.Expires} {
			*at = at.UTC()
		}
		all[e.ID] = c
	}
	return all, len(texts)
}

func bodyText(t *testing.T, sp spool.Spool, id spool.ID) string {
	t.Helper()
	b, err := sp.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	text, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sameMail checks that two spools hold the same, and share bodies alike.
func sameMail(t *testing.T, dst, src spool.Spool) {
	t.Helper()
	got, gotBodies := holds(t, dst)
	want, wantBodies := holds(t, src)
	sameEntries(t, got, want)
	if gotBodies != wantBodies {
		t.Errorf("the copy has %d bodies, want %d", gotBodies, wantBodies)
	}
}

func sameEntries(t *testing.T, got, want map[spool.ID]copied) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("the copy has %d entries, want %d", len(got), len(want))
	}
	for id, w := range want {
		if g, found := got[id]; !found || !reflect.DeepEqual(g, w) {
			t.Fatalf("the copy of %s is\n%+v, want\n%+v", id, g.e, w.e)
		}
	}
}

func TestCopy(t *testing.T) {
	src, dst := spool.NewMemory(), spool.NewMemory()
	entries, bodies := fillCopy(t, src)
	src.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 10}) // which are owned then
	before, _ := holds(t, src)
	calls := 0
	var last spool.CopyResult
	res, err := spool.Copy(t.Context(), dst, readOnly{src}, &spool.CopyOptions{Progress: func(r spool.CopyResult) {
		if calls++; r.Entries <= last.Entries {
			t.Errorf("Progress went from %d to %d entries", last.Entries, r.Entries)
		}
		last = r
	}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Entries != int64(entries) || res.Bodies != int64(bodies) || res.Skipped != 0 || res.Removed != 0 || res.Owned != 0 {
		t.Errorf("got %+v, want %d entries and %d bodies", res, entries, bodies)
	}
	want := int64(0)
	for n := range bodies {
		want += int64(copySize(n))
	}
	if res.Bytes != want {
		t.Errorf("got %d bytes, want %d", res.Bytes, want)
	}
	if calls < 2 || !reflect.DeepEqual(last, res) {
		t.Errorf("Progress was called %d times, and said %+v in the end, want %+v", calls, last, res)
	}
	sameMail(t, dst, src)
	after, _ := holds(t, src)
	sameEntries(t, after, before)

	claimed, _, err := dst.Claim(t.Context(), spool.ClaimRequest{IDs: slices.Collect(maps.Keys(before))})
	if err != nil || len(claimed) != entries {
		t.Errorf("%d of %d entries can be claimed in the copy, error %v", len(claimed), entries, err)
	}
	res, err = spool.Copy(t.Context(), dst, src, nil)
	if err != nil || res.Skipped != int64(entries) || res.Entries != 0 || res.Bodies != 0 {
		t.Errorf("the second Copy: %+v, %v, want all skipped", res, err)
	}
}

func TestCopyEmpty(t *testing.T) {
	for _, opts := range []*spool.CopyOptions{nil, {Remove: true}} {
		res, err := spool.Copy(t.Context(), spool.NewMemory(), spool.NewMemory(), opts)
		if err != nil || !reflect.DeepEqual(res, spool.CopyResult{}) {
			t.Errorf("Copy of an empty spool: %+v, %v", res, err)
		}
	}
}

// readOnly fails the test of whoever does more than to read.
type readOnly struct{ spool.Spool }

func (readOnly) Create(context.Context, int64) (spool.Writer, error) {
	return nil, errors.New("Create on a read-only spool")
}

func (readOnly) Claim(context.Context, spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	return nil, time.Time{}, errors.New("Claim on a read-only spool")
}

func (readOnly) Apply(_ context.Context, units ...spool.Unit) []error {
	return slices.Repeat([]error{errors.New("Apply on a read-only spool")}, len(units))
}

func TestCopyRemove(t *testing.T) {
	src, dst := spool.NewMemory(), spool.NewMemory()
	entries, _ := fillCopy(t, src)
	other := src.Attach()
	theirs, _, err := other.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 20})
	if err != nil {
		t.Fatal(err)
	}
	mine, _, err := src.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := holds(t, src)
	res, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true})
	if err != nil {
		t.Fatal(err)
	}
	owned := int64(len(theirs) + len(mine))
	if res.Owned != owned || res.Entries != int64(entries)-owned || res.Removed != res.Entries {
		t.Errorf("got %+v, want %d owned, the others of %d moved", res, owned, entries)
	}
	left, _ := holds(t, src)
	if len(left) != int(owned) {
		t.Errorf("%d entries are left in the source, want the %d that are owned", len(left), owned)
	}
	if errs := other.Apply(t.Context(), spool.Unit{{Op: spool.Release, Entry: theirs[0]}}); errs != nil {
		t.Errorf("what another owned was touched: %v", errs)
	}
	for _, e := range mine {
		if errs := src.Apply(t.Context(), spool.Unit{{Op: spool.Release, Entry: e}}); errs != nil {
			t.Errorf("what the source owned was touched: %v", errs)
		}
	}
	other.Close()
	res, err = spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true})
	if err != nil || res.Removed != owned || res.Owned != 0 {
		t.Errorf("second Copy, when nobody owns anything: %+v, %v, want %d removed", res, err, owned)
	}
	got, _ := holds(t, dst)
	sameEntries(t, got, before)
	if left, bodies := holds(t, src); len(left) != 0 || bodies != 0 {
		t.Errorf("%d entries are left in the source", len(left))
	}
}

// To move mail from a store to itself would remove it.
func TestCopyToItself(t *testing.T) {
	src := spool.NewMemory()
	entries, _ := fillCopy(t, src)
	for _, dst := range []spool.Spool{src, src.Attach()} {
		_, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true})
		if err == nil || !strings.Contains(err.Error(), "which are one") {
			t.Errorf("Copy of a spool to itself with Remove: got %v", err)
		}
		res, err := spool.Copy(t.Context(), dst, src, nil)
		if err != nil || res.Skipped != int64(entries) {
			t.Errorf("Copy of a spool to itself: %+v, %v, want all skipped", res, err)
		}
	}
	all, _ := holds(t, src)
	claimed, _, _ := src.Claim(t.Context(), spool.ClaimRequest{IDs: slices.Collect(maps.Keys(all))})
	if len(all) != entries || len(claimed) != entries {
		t.Errorf("%d entries are left, and %d can be claimed, want %d", len(all), len(claimed), entries)
	}
}

// The bytes of an entry that dst has are compared before a body is shared with
// it: there it may have been changed.
func TestCopyChangedBody(t *testing.T) {
	for _, test := range []struct {
		name, text string
		bodies     int64
	}{
		{"as it was", "original", 0},
		{"of the same length", "modified", 1},
		{"longer", "original and more", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			src, dst := spool.NewMemory(), spool.NewMemory()
			first := store(src, "original")
			if _, err := spool.Copy(t.Context(), dst, src, nil); err != nil {
				t.Fatal(err)
			}
			late := first.Clone()
			late.ID = spool.NewID()
			second := late.Clone()
			second.ID = spool.NewID()
			if errs := src.Apply(t.Context(), spool.Unit{{Op: spool.Insert, Entry: late}, {Op: spool.Insert, Entry: second}}); errs != nil {
				t.Fatal(errs)
			}
			replaceBody(t, dst, first.ID, test.text)
			res, err := spool.Copy(t.Context(), dst, src, nil)
			if err != nil || res.Entries != 2 || res.Bodies != test.bodies || res.Skipped != 1 {
				t.Errorf("got %+v, %v, want 2 entries, %d bodies, 1 skipped", res, err, test.bodies)
			}
			all, _ := holds(t, dst)
			if all[first.ID].text != test.text || all[late.ID].text != "original" || all[second.ID].text != "original" {
				t.Errorf("got %q and %q, want %q and %q", all[first.ID].text, all[late.ID].text, test.text, "original")
			}
		})
	}
}

// A copy that cannot be read any more is no reason not to make another.
func TestCopyLostBody(t *testing.T) {
	for _, name := range []string{"damaged", "removed", "unreadable"} {
		t.Run(name, func(t *testing.T) {
			src, dst := spool.NewMemory(), &hooked{Memory: spool.NewMemory()}
			first := store(src, "original")
			if _, err := spool.Copy(t.Context(), dst, src, nil); err != nil {
				t.Fatal(err)
			}
			late := first.Clone()
			late.ID = spool.NewID()
			if errs := src.Apply(t.Context(), spool.Unit{{Op: spool.Insert, Entry: late}}); errs != nil {
				t.Fatal(errs)
			}
			var there spool.ID
			for e := range dst.Memory.Scan(t.Context(), spool.Query{}) {
				there = e.Body
			}
			broken := errors.New("broken")
			dst.open = func(id spool.ID) error {
				switch name {
				case "damaged":
					dst.Memory.Damage(there, "body")
				case "removed":
					entries, _, _ := dst.Memory.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{first.ID}})
					dst.Memory.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: entries[0]}})
				default:
					return broken
				}
				return nil
			}
			res, err := spool.Copy(t.Context(), dst, src, nil)
			if name == "unreadable" {
				if !errors.Is(err, broken) || res.Entries != 0 {
					t.Errorf("got %+v, %v, want the error of Open", res, err)
				}
				return
			}
			if err != nil || res.Entries != 1 || res.Bodies != 1 {
				t.Errorf("got %+v, %v, want one new entry on a new body", res, err)
			}
			for e := range dst.Memory.Scan(t.Context(), spool.Query{}) {
				if e.ID == late.ID && bodyText(t, dst.Memory, e.Body) != "original" {
					t.Error("the new entry has another body")
				}
			}
		})
	}
}

// replaceBody gives an entry another body.
func replaceBody(t *testing.T, sp spool.Spool, id spool.ID, text string) {
	t.Helper()
	entries, _, err := sp.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{id}})
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	w, err := sp.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text)
	e := entries[0].Clone()
	e.Body = w.ID()
	if errs := sp.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: e, Stage: w}}); errs != nil {
		t.Fatal(errs)
	}
}
