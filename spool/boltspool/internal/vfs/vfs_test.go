package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWriteVAt writes many buffers of many sizes at once.
func TestWriteVAt(t *testing.T) {
	for _, test := range []struct{ n, size int }{{0, 0}, {1, 5}, {3, 0}, {3000, 7}, {5, 1 << 20}, {7, 300_000}, {2, 3<<20 + 1}} {
		t.Run(fmt.Sprintf("%dx%d", test.n, test.size), func(t *testing.T) {
			f, err := OS{}.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var bufs [][]byte
			var want []byte
			for i := range test.n {
				b := bytes.Repeat([]byte{byte(i + 1)}, test.size+i%3)
				bufs = append(bufs, b)
				want = append(want, b...)
			}
			before := fmt.Sprint(len(bufs))
			n, err := f.WriteVAt(bufs, 100)
			if err != nil || n != int64(len(want)) {
				t.Errorf("wrote %d bytes, error %v, want %d", n, err, len(want))
			}
			got := make([]byte, len(want)+1)
			if k, _ := f.ReadAt(got, 100); !bytes.Equal(got[:k], want) {
				t.Error("what was written reads differently")
			}
			if joined := bytes.Join(bufs, nil); !bytes.Equal(joined, want) || fmt.Sprint(len(bufs)) != before {
				t.Error("the buffers were changed")
			}
		})
	}
}

// TestWriteVAtFails: the error of a file that cannot be written names it.
func TestWriteVAtFails(t *testing.T) {
	f, err := OS{}.OpenFile("/dev/full", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("not checked: a write without space; that needs /dev/full")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.WriteVAt([][]byte{make([]byte, 10), make([]byte, 10)}, 0)
	if n != 0 || !errors.Is(WriteError(err), ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %d, %v, want ErrNoSpace", n, err)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err             error
		space, too, ret bool
	}{
		{syscall.ENOSPC, true, false, true},
		{&os.PathError{Op: "write", Err: errQuota}, true, false, true},
		{syscall.EIO, false, false, true},
		{syscall.EMFILE, false, true, true},
		{nil, false, false, false},
	} {
		write, open := WriteError(test.err), OpenError(test.err)
		if errors.Is(write, ErrNoSpace) != test.space || errors.Is(write, ErrTooMany) || errors.Is(open, ErrTooMany) != test.too {
			t.Errorf("%v became %v, and when opening %v", test.err, write, open)
		}
		if (write != nil) != test.ret || test.err != nil && (!errors.Is(write, test.err) || !errors.Is(open, test.err)) {
			t.Errorf("%v is not what caused %v", test.err, write)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "sub", "f")
	for range 2 {
		if err := MakeDir(OS{}, filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(OS{}, name, []byte("contents")); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := ReadFile(OS{}, name, 8); err != nil || string(b) != "contents" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := ReadFile(OS{}, name, 7); err == nil {
		t.Error("a file longer than its limit was read")
	}
	if files, _ := os.ReadDir(filepath.Dir(name)); len(files) != 1 {
		t.Errorf("%d files, want 1", len(files))
	}
}

// TestFill: there are zeros where they were to be, and nowhere else.
func TestFill(t *testing.T) {
	f, err := OS{}.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const before, filled, size = 5000, 300_001, 400_000
	want := bytes.Repeat([]byte("x"), size)
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(size); err != nil {
		t.Skipf("not checked: zeros ahead; this file system allocates nothing: %v", err)
	}
	switch err := f.Fill(before, filled); {
	case err == nil:
		clear(want[before : before+filled])
	case !errors.Is(err, errors.ErrUnsupported):
		t.Fatal(err)
	default:
		t.Log("of no use on this file system")
	}
	got := make([]byte, size+1)
	if n, _ := f.ReadAt(got, 0); !bytes.Equal(got[:n], want) {
		t.Error("the file is not what it was, with zeros in it")
	}
}
