package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// now is when the commands of the tests are called.
var now = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func id(n int) spool.ID {
	id, err := spool.ParseID(fmt.Sprintf("019000000000700080000000000000%02d", n))
	if err != nil {
		panic(err)
	}
	return id
}

// testSpool makes a spool with one of everything, and returns the bodies too.
func testSpool(t *testing.T) (dir string, bodies map[spool.ID][]byte) {
	t.Helper()
	dir = filepath.Join(tempDir(t), "spool")
	s := openSpool(t, dir)
	bodies = map[spool.ID][]byte{}
	put := func(body string, entries ...*spool.Entry) {
		t.Helper()
		w, err := s.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		bodies[w.ID()] = []byte(body)
		for _, e := range entries {
			e.Body = w.ID()
		}
		if err := w.Commit(t.Context(), entries...); err != nil {
			t.Fatal(err)
		}
	}
	put("Subject: one\r\n\r\nHello\r\n",
		&spool.Entry{ID: id(1), Queue: "inbox", Class: "acme", Due: now.Add(13 * time.Minute), Received: now.Add(-187 * time.Minute), Attempts: 7, Interrupted: 1,
			Expires: now.Add(48 * time.Hour), LastError: "451 4.4.1 no route yet",
			Envelope: spool.Envelope{Sender: "News@Example.org", Recipients: []spool.Recipient{{Address: "a@example.com", Notify: []string{"FAILURE", "DELAY"}, ORcpt: "rfc822;x@example.com"}},
				SMTPUTF8: true, RequireTLS: true, Body: "8BITMIME", Ret: "HDRS", EnvID: "e1"},
			Meta: map[string]string{"tenant": "acme", "hostname": "mx"}, Header: []byte("Received: from client\r\n\tfor <a@example.com>\r\n")},
		&spool.Entry{ID: id(2), Queue: "inbox", Class: "other", Due: now, Received: now.Add(-187 * time.Minute),
			Envelope: spool.Envelope{Sender: "news@example.org", Recipients: []spool.Recipient{{Address: "b@example.com"}, {Address: "c@example.com"}}}, Header: []byte("Received: from client\r\n")})
	put("Subject: two\r\nX: y\r\n\r\nBounce\r\n",
		&spool.Entry{ID: id(3), Queue: "example.net", Class: "-", State: spool.Held, Due: now.Add(time.Hour), Received: now.Add(-50 * time.Hour), Attempts: 2,
			LastError: "evil \x1b[2J\r\n" + strings.Repeat("long ", 20), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "caf\xe9@example.net"}}},
			Header: []byte("Subject: TWO\r\n"), Skip: 14})
	put(strings.Repeat("0123456789abcde\n", 1<<17),
		&spool.Entry{ID: id(4), Queue: "example.net", Class: "-", State: spool.Final, Due: now, Received: now.Add(-30 * time.Second), Outcome: []byte(`{"type": "Bounce", "to": "<e>"}`),
			Envelope: spool.Envelope{Sender: "d@example.org", Recipients: []spool.Recipient{{Address: "e@example.net"}}}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, bodies
}

// tempDir returns a new directory where a sync costs little, if there is one.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "spoolctl")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openSpool(t *testing.T, dir string) *boltspool.Spool {
	t.Helper()
	s, err := boltspool.Open(dir, &boltspool.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A result is what a call of the command has answered.
type result struct {
	code        int
	out, errors string
}

func call(t *testing.T, args ...string) result {
	t.Helper()
	return callWith(t.Context(), "", args...)
}

func callWith(ctx context.Context, stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	a := &app{ctx: ctx, stdin: strings.NewReader(stdin), stdout: bufio.NewWriter(&stdout), stderr: &stderr, now: now, zone: time.FixedZone("", 2*3600)}
	code := a.run(args)
	return result{code, stdout.String(), stderr.String()}
}

// want checks what a call has answered. Text that is given must be all of it.
func (r result) want(t *testing.T, code int, out string) {
	t.Helper()
	if r.code != code {
		t.Errorf("it answers %d, want %d; standard error: %s", r.code, code, r.errors)
	}
	if got, want := strings.TrimSpace(r.out), strings.TrimSpace(out); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if code == exitFine && r.errors != "" {
		t.Errorf("standard error: %s", r.errors)
	}
}

// wantError checks that standard error has all of these texts.
func (r result) wantError(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.errors, text) {
			t.Errorf("standard error says %q, want %q in it", r.errors, text)
		}
	}
}

// contentsOf is what is in a directory.
func contentsOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, name, info.Mode(), info.Size(), info.ModTime().UnixNano())
		if !d.IsDir() {
			contents, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			b.Write(contents)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return b.String()
}

// spoil flips a bit in that file of a spool in which a text is.
func spoil(t *testing.T, dir, text string) {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if i := bytes.Index(b, []byte(text)); i >= 0 && !found {
			found = true
			b[i] ^= 1
			return os.WriteFile(name, b, 0o600)
		}
		return nil
	})
	if err != nil || !found {
		t.Fatalf("no file of %s has %q; error %v", dir, text, err)
	}
}

func TestUsage(t *testing.T) {
	dir, _ := testSpool(t)
	none := filepath.Join(tempDir(t), "none")
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "a command is missing"},
		{[]string{"lisst"}, `no command "lisst"`},
		{[]string{"help", "lisst"}, `no command "lisst"`},
		{[]string{"list"}, "directory of a spool is missing"},
		{[]string{"list", dir, dir}, "too many arguments"},
		{[]string{"list", dir, "-color"}, "-color"},
		{[]string{"list", dir, "-state", "odd"}, "want queued, held or final"},
		{[]string{"list", dir, "-older", "soon"}, "-older"},
		{[]string{"list", dir, "-older", "-1h"}, "not negative"},
		{[]string{"list", dir, "-older", "xd"}, "no number of days"},
		{[]string{"list", dir, "-after", "12"}, "want 32 hexadecimal digits"},
		{[]string{"list", "--", dir, "-queue"}, "too many arguments"},
		{[]string{"queues"}, "directory of a spool is missing"},
		{[]string{"show", dir}, "ID of a message is missing"},
		{[]string{"show", dir, "12"}, "want 32 hexadecimal digits"},
		{[]string{"verify"}, "directory of a spool is missing"},
		{[]string{"export"}, "directory of a spool is missing"},
		{[]string{"export", dir, "-to", "-"}, "want one ID"},
		{[]string{"export", dir, "-to", "-", id(1).String(), id(2).String()}, "want one ID"},
		{[]string{"export", dir, "-queue", "x", id(1).String()}, "exclude each other"},
		{[]string{"export", dir, "-to", filepath.Join(dir, "out")}, "is in the spool"},
		{[]string{"export", dir, "-to", dir}, "is in the spool"},
		{[]string{"copy", dir}, "want two directories"},
		{[]string{"copy", dir, dir}, "one directory"},
		{[]string{"rebuild"}, "directory of a spool is missing"},
		{[]string{"rebuild", dir}, "-yes is missing"},
		{[]string{"list", none}, "is not a spool"},
		{[]string{"queues", none}, "is not a spool"},
		{[]string{"show", none, id(1).String()}, "is not a spool"},
		{[]string{"verify", none}, "is not a spool"},
		{[]string{"export", none, "-to", filepath.Join(none, "out")}, "is not a spool"},
		{[]string{"copy", none, filepath.Join(none, "to")}, "is not a spool"},
		{[]string{"copy", none, filepath.Join(none, "to"), "-remove"}, "is not a spool"},
		{[]string{"rebuild", none, "-yes"}, "is not a spool"},
	} {
		before := contentsOf(t, filepath.Dir(dir))
		r := call(t, test.args...)
		r.want(t, exitUsage, "")
		r.wantError(t, test.want)
		if after := contentsOf(t, filepath.Dir(dir)); after != before {
			t.Errorf("%q changed the spool", test.args)
		}
		if _, err := os.Stat(none); err == nil {
			t.Fatalf("%q made a directory", test.args)
		}
	}
}

// TestHelp: all that there is can be found.
func TestHelp(t *testing.T) {
	all := call(t, "help")
	if all.code != exitFine || call(t, "-h") != all || call(t, "--help") != all {
		t.Errorf("help answers %+v, and -h %+v", all, call(t, "-h"))
	}
	for _, c := range commands() {
		if !strings.Contains(all.out, "spoolctl "+c.name) {
			t.Errorf("help does not name %s", c.name)
		}
		help := call(t, "help", c.name)
		if help.code != exitFine || !strings.HasPrefix(help.out, "usage: spoolctl "+c.name+" ") || len(help.out) < 60 {
			t.Errorf("help %s answers %+v", c.name, help)
		}
		if call(t, c.name, "-h") != help || call(t, c.name, "x", "-h") != help {
			t.Errorf("%s -h answers %+v", c.name, call(t, c.name, "-h"))
		}
	}
	if r := call(t, "help", "list"); !strings.Contains(r.out, "-older DURATION") || strings.Contains(r.out, "(default 000") {
		t.Errorf("help list does not explain its flags: %s", r.out)
	}
}

// TestInUse: who looks at a spool that a host has open is told who it is, and how
// to look into it nevertheless.
func TestInUse(t *testing.T) {
	dir, _ := testSpool(t)
	openSpool(t, dir)
	for _, args := range [][]string{
		{"list", dir}, {"queues", dir}, {"show", dir, id(1).String()}, {"verify", dir}, {"export", dir, "-to", tempDir(t)},
		{"copy", dir, filepath.Join(tempDir(t), "to")},
	} {
		r := call(t, args...)
		r.want(t, exitUsage, "")
		r.wantError(t, "in use by process "+fmt.Sprint(os.Getpid()), "Spool.Backup", "or stop the host")
	}
	free, _ := testSpool(t)
	for _, args := range [][]string{
		{"copy", "-remove", dir, filepath.Join(tempDir(t), "to")}, {"copy", free, dir}, {"rebuild", dir, "-yes"},
	} {
		r := call(t, args...)
		r.want(t, exitUsage, "")
		r.wantError(t, "in use by process "+fmt.Sprint(os.Getpid()), "Stop the host first")
	}
}

// TestBackup does what it says then.
func TestBackup(t *testing.T) {
	dir, _ := testSpool(t)
	want := call(t, "list", dir)
	s := openSpool(t, dir)
	backup := filepath.Join(tempDir(t), "backup")
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	call(t, "list", backup).want(t, exitFine, want.out)
	call(t, "verify", backup).want(t, exitFine, "4 entries, 3 bodies of 2097205 bytes, 0 damaged")
}

// TestNothingIsWritten calls everything that only looks.
func TestNothingIsWritten(t *testing.T) {
	dir, _ := testSpool(t)
	before := contentsOf(t, dir)
	for _, args := range [][]string{
		{"list", dir}, {"list", dir, "-json"}, {"queues", dir}, {"show", dir, id(1).String()}, {"verify", dir},
		{"export", dir, "-to", filepath.Join(tempDir(t), "out")}, {"copy", dir, filepath.Join(tempDir(t), "to")},
	} {
		if r := call(t, args...); r.code != exitFine {
			t.Errorf("%q: %+v", args, r)
		}
		if contentsOf(t, dir) != before {
			t.Errorf("%q changed the spool", args)
		}
	}
}

func TestCancelled(t *testing.T) {
	dir, _ := testSpool(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{
		{"list", dir}, {"queues", dir}, {"show", dir, id(1).String()}, {"verify", dir},
		{"export", dir, "-to", filepath.Join(tempDir(t), "out")}, {"copy", dir, filepath.Join(tempDir(t), "to")},
	} {
		r := callWith(ctx, "", args...)
		r.wantError(t, "context canceled")
		if r.code != exitLeft {
			t.Errorf("%q answers %d, want %d", args, r.code, exitLeft)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("pipe is broken") }

// TestRun calls the whole.
func TestRun(t *testing.T) {
	dir, _ := testSpool(t)
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"queues", "-utc", dir}, nil, &stdout, &stderr); code != exitFine || !strings.Contains(stdout.String(), "inbox") {
		t.Errorf("queues answers %d: %s%s", code, stdout.String(), stderr.String())
	}
	if code := run(t.Context(), []string{"list", dir}, nil, brokenWriter{}, &stderr); code != exitLeft || !strings.Contains(stderr.String(), "pipe is broken") {
		t.Errorf("with a broken pipe list answers %d: %s", code, stderr.String())
	}
}
