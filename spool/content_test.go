package spool_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A bodyOf is a Body of some bytes that counts its Closes.
type bodyOf struct {
	*bytes.Reader
	closed int
}

func newBody(s string) *bodyOf { return &bodyOf{Reader: bytes.NewReader([]byte(s))} }

func (b *bodyOf) Close() error {
	b.closed++
	return nil
}

func TestContent(t *testing.T) {
	tests := []struct {
		name, header, body string
		skip               int64
		want               string
	}{
		{"body alone", "", "body", 0, "body"},
		{"header in front", "header ", "body", 0, "header body"},
		{"header for what is skipped", "new ", "old body", 4, "new body"},
		{"skipped alone", "", "old body", 4, "body"},
		{"all skipped", "new", "old", 3, "new"},
		{"skip beyond the body", "new", "old", 9, "new"},
		{"empty body", "header", "", 0, "header"},
		{"nothing", "", "", 0, ""},
		{"nothing left", "", "body", 4, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			under := newBody(test.body)
			c := spool.Content([]byte(test.header), under, test.skip)
			if c.Size() != int64(len(test.want)) {
				t.Errorf("Size: got %d, want %d", c.Size(), len(test.want))
			}
			if err := iotest.TestReader(c, []byte(test.want)); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil || under.closed != 1 {
				t.Errorf("Close: got %v and closed the body %d times, want nil and once", err, under.closed)
			}
		})
	}
}

func TestContentSeek(t *testing.T) {
	c := spool.Content([]byte("0123"), newBody("xx456789"), 2)
	tests := []struct {
		offset int64
		whence int
		want   int64
		rest   string
	}{
		{0, io.SeekStart, 0, "0123456789"},
		{4, io.SeekStart, 4, "456789"},
		{-7, io.SeekEnd, 3, "3456789"},
		{-8, io.SeekCurrent, 2, "23456789"}, // from the end, where the last case left it
		{5, io.SeekEnd, 15, ""},
	}
	for _, test := range tests {
		pos, err := c.Seek(test.offset, test.whence)
		if err != nil || pos != test.want {
			t.Errorf("Seek(%d, %d): got %d, %v, want %d", test.offset, test.whence, pos, err, test.want)
		}
		if rest, err := io.ReadAll(c); err != nil || string(rest) != test.rest {
			t.Errorf("after Seek(%d, %d): read %q, %v, want %q", test.offset, test.whence, rest, err, test.rest)
		}
	}
	for _, bad := range []struct {
		offset int64
		whence int
	}{{-1, io.SeekStart}, {-11, io.SeekEnd}, {math.MinInt64, io.SeekStart}, {0, 3}, {0, -1}} {
		if pos, err := c.Seek(bad.offset, bad.whence); err == nil {
			t.Errorf("Seek(%d, %d): got %d, want an error", bad.offset, bad.whence, pos)
		}
	}
	if _, err := c.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("ReadAt(-1): want an error")
	}
}

// A body that fails must not look like one that ends.
func TestContentError(t *testing.T) {
	broken := errors.New("broken")
	c := spool.Content([]byte("header"), failingBody{newBody("body"), broken}, 0)
	if got, err := io.ReadAll(c); !errors.Is(err, broken) || string(got) != "header" {
		t.Errorf("ReadAll: got %q, %v, want the header and the error of the body", got, err)
	}
	buf := make([]byte, 8)
	if n, err := c.ReadAt(buf, 2); n != 4 || !errors.Is(err, broken) {
		t.Errorf("ReadAt: got %d, %v, want 4 bytes of header and the error of the body", n, err)
	}
}

type failingBody struct {
	*bodyOf
	err error
}

func (b failingBody) ReadAt([]byte, int64) (int, error) { return 0, b.err }

func FuzzContent(f *testing.F) {
	f.Add([]byte("header"), []byte("body"), int64(2), int64(3), 4)
	f.Fuzz(func(t *testing.T, header, body []byte, skip, off int64, n int) {
		if skip < 0 || off < 0 || n < 0 || n > 1000 {
			return
		}
		want := append(bytes.Clone(header), body[min(skip, int64(len(body))):]...)
		c := spool.Content(header, newBody(string(body)), skip)
		if c.Size() != int64(len(want)) {
			t.Fatalf("Size: got %d, want %d", c.Size(), len(want))
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("ReadAll: got %q, %v, want %q", got, err, want)
		}
		buf, model := make([]byte, n), make([]byte, n)
		got, err := c.ReadAt(buf, off)
		wantN, wantErr := bytes.NewReader(want).ReadAt(model, off)
		if n == 0 {
			return // readers differ in whether nothing at the end is the end
		}
		if got != wantN || (err == nil) != (wantErr == nil) || !bytes.Equal(buf[:got], model[:wantN]) {
			t.Fatalf("ReadAt(%d, %d): got %d, %v, want %d, %v", n, off, got, err, wantN, wantErr)
		}
	})
}
