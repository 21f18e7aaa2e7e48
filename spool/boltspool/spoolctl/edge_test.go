package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestFarAway: a message that is due in a year of five digits is one like others.
func TestFarAway(t *testing.T) {
	dir := filepath.Join(tempDir(t), "spool")
	s := openSpool(t, dir)
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	far := time.Date(12345, 6, 7, 8, 9, 10, 0, time.UTC)
	before := time.Date(-5, 6, 7, 8, 9, 10, 0, time.UTC)
	err = w.Commit(t.Context(),
		&spool.Entry{ID: id(1), Body: w.ID(), Queue: "q", Class: "c", State: spool.Held, Due: far, Received: now, Expires: far},
		&spool.Entry{ID: id(2), Body: w.ID(), Queue: "q", Class: "c", Due: before, Received: before},
		&spool.Entry{ID: id(3), Body: w.ID(), Queue: "q", Class: "c", Due: now, Received: now})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, args := range [][]string{
		{"list", dir}, {"list", dir, "-json"}, {"queues", dir}, {"queues", dir, "-json"},
		{"show", dir, id(1).String(), id(2).String(), id(3).String(), "-json"}, {"export", dir, "-to", filepath.Join(tempDir(t), "out")},
	} {
		if r := call(t, args...); r.code != exitFine || r.errors != "" {
			t.Errorf("%v: it answers %d, %s", args, r.code, r.errors)
		} else if args[len(args)-1] == "-json" && args[0] != "queues" && strings.Count(r.out, "\n") != 3 {
			t.Errorf("%v: %s", args, r.out)
		}
	}
}

// TestExportKeeps: no file that is there is overwritten.
func TestExportKeeps(t *testing.T) {
	dir, _ := testSpool(t)
	to := tempDir(t)
	name := filepath.Join(to, id(1).String()+".json")
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := call(t, "export", dir, "-to", to, "-queue", "inbox")
	r.want(t, exitLeft, "1 messages, 46 bytes, are in "+to+"; 1 could not be exported")
	if b, err := os.ReadFile(name); err != nil || string(b) != "mine" {
		t.Errorf("the file that was there says %.40q, error %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(to, id(1).String()+".eml")); err == nil {
		t.Error("there is the other file of the message")
	}
}

// TestExportNone: standard input without IDs selects no message, and not all.
func TestExportNone(t *testing.T) {
	dir, _ := testSpool(t)
	to := filepath.Join(tempDir(t), "out")
	callWith(t.Context(), "\n", "export", dir, "-", "-to", to).want(t, exitFine, "0 messages, 0 bytes, are in "+to)
}

// TestJSONHarmless: JSON is shown on terminals, too.
func TestJSONHarmless(t *testing.T) {
	dir := filepath.Join(tempDir(t), "spool")
	s := openSpool(t, dir)
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	evil := "a\u009b2Jb\x7f\u202e"
	if err := w.Commit(t.Context(), &spool.Entry{ID: id(1), Body: w.ID(), Queue: "q", Class: "c", Due: now, Received: now, LastError: evil, Outcome: []byte(`{"x":"` + evil + `"}`)}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, args := range [][]string{{"list", dir, "-json"}, {"list", dir}, {"show", dir, id(1).String()}} {
		if r := call(t, args...); strings.ContainsAny(r.out, "\u009b\x7f\u202e") {
			t.Errorf("%v: %q", args, r.out)
		}
	}
}
