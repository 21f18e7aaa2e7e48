package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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
		{"cat DIR -sender x@example.com", 0, "", 0},
		{"show DIR " + first, 0, "Bounce", 3},
		{"show DIR 0000000000000000000000000000000f", 1, "no record of", 1},
		{"stats DIR", 0, `Bounce            q\x1b[2J  2        200`, 4},
		{"stats -json DIR", 0, `{"type":"Bounce","queue":"q\u001b[2J","records":2,"bytes":200}`, 3},
		{"cat", 2, "want one directory", 2},
		{"cat DIR -since yesterday", 2, "neither a time nor a duration", 2},
		{"cat DIR -type mail", 2, "none of", 2},
		{"show DIR zz", 2, "", 2},
		{"cat DIR/none", 1, "no such file", 1},
		{"frob", 2, "no command", 2},
		{"help", 0, "-since TIME", 28},
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

// follow ends with its context.
func TestFollow(t *testing.T) {
	dir, _ := testLog(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if code, out, errs := call(ctx, "follow", dir); code != 0 || strings.Count(out, "\n") != 6 {
		t.Errorf("%d, %s%s", code, out, errs)
	}
}
