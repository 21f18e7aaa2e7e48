package spool_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// What the contract leaves to the caller is refused with an error that says
// what is wrong, and changes nothing.
func TestMemoryRefuses(t *testing.T) {
	ctx := t.Context()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")
	foreign, err := spool.NewMemory().Create(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(fn func(*spool.Entry)) *spool.Entry {
		c := e.Clone()
		c.ID = spool.NewID()
		fn(c)
		return c
	}
	tests := []struct {
		name, says string
		change     spool.Change
	}{
		{"no entry", "without an entry", spool.Change{Op: spool.Remove}},
		{"no op", "op 0", spool.Change{Entry: e}},
		{"unknown op", "op 5", spool.Change{Op: spool.Release + 1, Entry: e}},
		{"no ID", "without an ID", spool.Change{Op: spool.Insert, Entry: edit(func(e *spool.Entry) { e.ID = spool.ID{} })}},
		{"no queue", `queue ""`, spool.Change{Op: spool.Insert, Entry: edit(func(e *spool.Entry) { e.Queue = "" })}},
		{"no class", `class ""`, spool.Change{Op: spool.Insert, Entry: edit(func(e *spool.Entry) { e.Class = "" })}},
		{"unknown state", "state 3", spool.Change{Op: spool.Insert, Entry: edit(func(e *spool.Entry) { e.State = spool.Final + 1 })}},
		{"skip below 0", "skip -1", spool.Change{Op: spool.Insert, Entry: edit(func(e *spool.Entry) { e.Skip = -1 })}},
		{"skip beyond the body", "skip 7", spool.Change{Op: spool.Insert, Entry: edit(func(e *spool.Entry) { e.Skip = 7 })}},
		{"foreign stage", "not created by this Spool", spool.Change{Op: spool.Insert, Entry: edit(func(*spool.Entry) {}), Stage: foreign}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			errs := sp.Apply(ctx, spool.Unit{test.change})
			if len(errs) != 1 || errs[0] == nil || !strings.Contains(errs[0].Error(), test.says) {
				t.Errorf("got %v, want an error that says %q", errs, test.says)
			}
		})
	}
	w, err := sp.Create(ctx, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx); err == nil {
		t.Error("Commit without entries: got no error")
	}
	if _, err := sp.Open(ctx, w.ID()); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("after Commit without entries: Open gives %v, want ErrNotFound", err)
	}
	w.Abort()
	if _, err := io.WriteString(w, "x"); err == nil {
		t.Error("Write after Abort: got no error")
	}
	if _, err := w.Open(); err == nil {
		t.Error("Writer.Open after Abort: got no error")
	}
}

func TestMemoryTimes(t *testing.T) {
	sp := spool.NewMemory()
	e := store(sp, "Hello.")
	for got := range sp.Scan(t.Context(), spool.Query{}) {
		if !got.Due.Equal(e.Due) || strings.Contains(got.Due.String(), "m=") {
			t.Errorf("Due: got %v, want %v without its monotonic reading", got.Due, e.Due)
		}
	}
	if !strings.Contains(e.Due.String(), "m=") {
		t.Errorf("the caller's Due was changed to %v", e.Due)
	}
}

func TestMemoryScanEnds(t *testing.T) {
	sp := spool.NewMemory()
	for range 3 {
		store(sp, "Hello.")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs []error
	for _, err := range sp.Scan(ctx, spool.Query{}) {
		errs = append(errs, err)
		cancel()
	}
	if !slices.Equal(errs, []error{nil, context.Canceled}) {
		t.Errorf("Scan whose context is cancelled at the first entry: got errors %v", errs)
	}
}
