package main

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// TestInternationalized: who passes the message on must be told what it needs.
func TestInternationalized(t *testing.T) {
	for _, tt := range []struct {
		name, query, text string
		utf8              bool
		body              string
	}{
		{"ASCII", good, "Subject: x\n\nx\n", false, ""},
		{"a body", good, "Subject: x\n\n\u00e4\n", false, "8BITMIME"},
		{"a header", good, "Subject: \u00e4\n\nx\n", true, "8BITMIME"},
		{"a sender", "?from=%C3%A4@example.org&to=b@example.com", "Subject: x\n\nx\n", true, ""},
		{"a recipient", "?from=a@example.org&to=b@%C3%A4.example", "Subject: x\n\nx\n", true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, spool.NewMemory(), filepath.Join(t.TempDir(), "keys"))
			if resp, text := w.post(tt.query, "secret", "1", strings.NewReader(tt.text)); resp.StatusCode != 202 {
				t.Fatal(resp.Status, text)
			}
			w.await(1, queue.Delivery)
			w.stop()
			if env := w.envs[0]; env.SMTPUTF8 != tt.utf8 || env.Body != tt.body {
				t.Errorf("%+v", env)
			}
		})
	}
}

func FuzzContent(f *testing.F) {
	f.Add("a\nb\r\nc\r\r\n\n", 3)
	f.Add("a: b\n\nb\r\n", 2)
	f.Add("\r", 1)
	f.Add("\n"+strings.Repeat("x", 998)+"\ny", 5)
	f.Add(strings.Repeat("x", 999), 5)
	f.Add("a: \xff\n\n\x00", 4)
	f.Add("\n\xff", 4)
	f.Fuzz(func(t *testing.T, s string, size int) {
		c := newContent(strings.NewReader(s))
		got, err := io.ReadAll(iotestReader{c, max(1, size%7)})
		lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
		if slices.ContainsFunc(lines, func(l string) bool { return strings.ContainsAny(l, "\r\x00") || len(l) > maxLine }) {
			if bad := contentError(""); !errors.As(err, &bad) {
				t.Errorf("%q became %q, %v, want an error", s, got, err)
			}
			return
		}
		want, header := strings.Join(lines, "\r\n"), lines
		if i := slices.Index(lines, ""); i >= 0 {
			header = lines[:i]
		}
		if err != nil || string(got) != want || c.eightBit != !isASCII(s) || c.utf8Header != !isASCII(strings.Join(header, "")) {
			t.Errorf("%q became %q, %v, want %q: %+v", s, got, err, want, c)
		}
	})
}

// iotestReader reads little at a time.
type iotestReader struct {
	r io.Reader
	n int
}

func (r iotestReader) Read(p []byte) (int, error) { return r.r.Read(p[:min(len(p), r.n)]) }
