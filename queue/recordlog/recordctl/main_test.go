package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
	"github.com/deferredqueue/deferredqueue/spool"
)

func testLog(t *testing.T) (dir string, l *recordlog.Log) {
	t.Helper()
	dir = t.TempDir()
	l, err := recordlog.Open(dir, &recordlog.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i, typ := range []queue.RecordType{queue.Reception, queue.TransientFailure, queue.Bounce} {
		for n := range 2 {
			r := queue.Record{
				Type: typ, ID: spool.ID{15: byte(n + 1)}, Sender: "a@example.org", Recipients: []string{"b@example.com", "c@example.com"}, Queue: "q\x1b[2J",
				Time: time.Date(2030, 1, 2, 3, i, n, 0, time.UTC), Attempts: i, Size: 100,
				Response: queue.Response{Code: 550, Enhanced: [3]int{5, 1, 1}, Content: "evil\x1b]0;x\a"},
			}
			if err := l.Record(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir, l
}

func call(ctx context.Context, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(ctx, args, &o, &e)
	return code, o.String(), e.String()
}

func TestCommands(t *testing.T) {
	dir, _ := testLog(t)
	const first = "00000000000000000000000000000001"
	for _, tt := range []struct {
		args string
		code int
		want string // in what it prints
		n    int    // lines
	}{
		{"cat DIR", 0, `2030-01-02T03:00:00.000Z Reception ` + first + ` queue=q\x1b[2J from=<a@example.org> to=b@example.com,c@example.com attempts=0 550 5.1.1 evil\x1b]0;x\a` + "\n", 6},
		{"cat -json DIR", 0, `"type":"Bounce"`, 6},
		{"cat DIR -type bounce,reception", 0, "Bounce", 4},
		{"cat -id " + first + " DIR", 0, first, 3},
		{"cat DIR -since 2030-01-02T03:01:00Z -until 2030-01-02T03:02:00Z", 0, "TransientFailure", 2},
		{"cat DIR -recipient C@example.com", 0, "Bounce", 6},
		{"cat DIR -recipient C@EXAMPLE", 0, "Bounce", 6},
		{"cat DIR -recipient example.org", 0, "", 0},
		{"cat DIR -sender example.org", 0, "Bounce", 6},
		{"cat DIR -sender x@example.com", 0, "", 0},
		{"cat DIR -sender <>", 0, "", 0},
		{"cat DIR -limit 4", 0, "TransientFailure", 4},
		{"stats DIR -limit 3", 0, "TransientFailure  q\\x1b[2J  1 ", 3},
		{"cat DIR -limit -1", 2, "is negative", 2},
		{"cat DIR -new", 2, "is for follow", 2},
		{"show DIR " + first, 0, "Bounce", 3},
		{"show DIR " + first + " -limit 1", 0, "Reception", 1},
		{"show DIR 0000000000000000000000000000000f", 1, "no record of", 1},
		{"stats DIR", 0, `Bounce            q\x1b[2J  2        200`, 4},
		{"stats -json DIR", 0, `{"type":"Bounce","queue":"q\u001b[2J","records":2,"bytes":200}`, 3},
		{"cat", 2, "want one directory", 2},
		{"cat DIR -since yesterday", 2, "neither a time nor a duration", 2},
		{"cat DIR -type mail", 2, "none of", 2},
		{"show DIR zz", 2, "", 2},
		{"cat DIR/none", 1, "no such file", 1},
		{"frob", 2, "no command", 2},
		{"help", 0, "-since TIME", 36},
	} {
		code, out, errs := call(t.Context(), strings.Fields(strings.ReplaceAll(tt.args, "DIR", dir))...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) || strings.Count(out+errs, "\n") != tt.n {
			t.Errorf("%s: %d, want %d, %d lines, want %d with %q\n%s%s", tt.args, code, tt.code, strings.Count(out+errs, "\n"), tt.n, tt.want, out, errs)
		}
	}
}

func TestDamage(t *testing.T) {
	dir, l := testLog(t)
	l.Close()
	names, err := filepath.Glob(filepath.Join(dir, "*.zst"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if err := os.Chmod(names[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names[0], []byte("no zstd at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := call(t.Context(), "cat", dir); code != exitDamage || !strings.Contains(errs, "is damaged at line 1") {
		t.Errorf("%d, %s", code, errs)
	}
}

// TestShowOrder: a life is shown in the order of time, whatever segments it stands in;
// records of one time in that of a life, and those of one suffix as they were written.
func TestShowOrder(t *testing.T) {
	dir, id := t.TempDir(), spool.NewID()
	l, err := recordlog.Open(dir, &recordlog.Options{
		Logger: slog.New(slog.DiscardHandler),
		PerType: map[queue.RecordType]recordlog.TypeOptions{
			queue.TransientFailure: {Suffix: "transient"}, queue.AdminRebind: {Suffix: "transient"}, queue.Reception: {Suffix: "z"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	put := func(minute int, typ queue.RecordType) {
		t.Helper()
		if err := l.Record(t.Context(), queue.Record{Type: typ, ID: id, Time: id.Time().Add(time.Duration(minute) * time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	put(0, queue.Delivery)
	put(1, queue.TransientFailure)
	put(3, queue.Delayed)
	put(3, queue.TransientFailure)
	if err := l.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(2, queue.AdminRebind) // the clock was set back
	put(5, queue.TransientFailure)
	put(5, queue.Expiration)
	put(0, queue.Reception)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, out, errs := call(t.Context(), "show", dir, id.String())
	var got []string
	for line := range strings.Lines(out) {
		got = append(got, strings.Fields(line)[1])
	}
	const want = "Reception Delivery TransientFailure TransientFailure AdminRebind Delayed TransientFailure Expiration"
	if code != 0 || strings.Join(got, " ") != want {
		t.Errorf("%d, %s, want %s\n%s", code, got, want, errs)
	}
}

// TestFollowNew: with -new what there is does not come, and with -limit it ends.
func TestFollowNew(t *testing.T) {
	dir := t.TempDir()
	l, err := recordlog.Open(dir, &recordlog.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	old := queue.Record{Type: queue.Bounce, ID: spool.NewID(), Queue: "old", Time: time.Now().Add(-time.Second)}
	if err := l.Record(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() { // until it is seen: when the follower begins is not known
		for ctx.Err() == nil {
			if err := l.Record(ctx, queue.Record{Type: queue.Bounce, ID: spool.NewID(), Queue: "new", Time: time.Now()}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	if code, out, errs := call(ctx, "follow", dir, "-new", "-limit", "2"); code != 0 || strings.Count(out, "queue=new") != 2 || strings.Count(out, "\n") != 2 {
		t.Errorf("%d, %s%s", code, out, errs)
	}
}

// follow ends with its context.
func TestFollow(t *testing.T) {
	dir, _ := testLog(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if code, out, errs := call(ctx, "follow", dir); code != 0 || strings.Count(out, "\n") != 6 {
		t.Errorf("%d, %s%s", code, out, errs)
	}
}
