package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
)

// TestBareLog reads back what several callers have appended: small bodies, and
// such as are larger than what is joined.
func TestBareLog(t *testing.T) {
	const callers, each = 8, 20
	dir := t.TempDir()
	l, err := openBareLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			from := commits.NewSender(i)
			body := bytes.Repeat([]byte{byte(i)}, 100)
			if i == 0 {
				body = bytes.Repeat([]byte{0}, logBuffer+1)
			}
			for range each {
				if err := l.Commit(t.Context(), from, body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[byte]int{}
	ids := map[string]bool{}
	for len(data) > 0 {
		record, body := int(binary.LittleEndian.Uint32(data)), int(binary.LittleEndian.Uint32(data[4:]))
		ids[string(data[8:24])] = true
		b := data[8+record : 8+record+body]
		if bytes.Count(b, b[:1]) != len(b) {
			t.Fatal("a body is mixed with another")
		}
		found[b[0]]++
		data = data[8+record+body:]
	}
	if len(found) != callers || len(ids) != callers*each {
		t.Errorf("%d callers and %d entries, want %d and %d", len(found), len(ids), callers, callers*each)
	}
	for i, n := range found {
		if n != each {
			t.Errorf("caller %d: %d messages, want %d", i, n, each)
		}
	}
}

// TestBareLogFails checks that no one is told that a message is safe which is not.
func TestBareLogFails(t *testing.T) {
	l, err := openBareLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l.file.Close()
	for range 2 {
		if err := l.Commit(t.Context(), commits.NewSender(1), []byte("body")); err == nil {
			t.Error("a message was stored in a file that is closed")
		}
	}
	if err := l.Close(); err == nil {
		t.Error("the file was closed twice")
	}
}

// TestLogPace says how many come at once and how many later, and how many make
// a group how long after.
func TestLogPace(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name       string
		pace       logPace
		now, later int // beside the first
		want       int
		after      time.Duration
	}{
		{"the first group", logPace{}, 0, 0, 1, 0},
		{"one alone", logPace{1, 4 * ms}, 0, 1, 1, 0},
		{"as many as before", logPace{3, 4 * ms}, 2, 1, 3, 0},
		{"more than before", logPace{3, 4 * ms}, 5, 1, 6, 0},
		{"the last comes late", logPace{3, 4 * ms}, 1, 1, 3, ms / 2},
		{"the last does not come", logPace{4, 4 * ms}, 1, 1, 3, ms},
		{"a slow disk", logPace{4, time.Hour}, 1, 1, 3, 2 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := make(chan *logRequest, 10)
				for range tt.now {
					requests <- &logRequest{}
				}
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					time.Sleep(ms / 2)
					for range tt.later {
						requests <- &logRequest{}
					}
				})
				begin := time.Now()
				got := len(tt.pace.collect(requests, []*logRequest{{}}))
				if after := time.Since(begin); got != tt.want || after != tt.after {
					t.Errorf("%d after %v, want %d after %v", got, after, tt.want, tt.after)
				}
			})
		})
	}
	var p logPace
	p.closed(7, 80*time.Microsecond)
	p.closed(5, 160*time.Microsecond)
	if want := (logPace{5, 90 * time.Microsecond}); p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
}
