package spooltest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing/iotest"

	"github.com/deferredqueue/deferredqueue/spool"
)

// big is the length of a body that no spool keeps with small ones.
const big = 3 << 20

var bodyTests = []conformanceTest{
	{
		name: "Reader",
		rule: "a Body behaves as io.Reader, io.Seeker and io.ReaderAt say",
		run: func(f *fixture) {
			for _, size := range []int{1, 100, 1000} {
				want := noise(size)
				w := f.stage(want)
				staged, err := w.Open()
				f.ok(err, "Writer.Open")
				f.ok(iotest.TestReader(staged, []byte(want)), "a staged body")
				f.ok(staged.Close(), "Close")
				f.ok(w.Commit(f.ctx, f.entry(w.ID())), "Commit")
				stored, err := f.sp.Open(f.ctx, w.ID())
				f.ok(err, "Open")
				f.ok(iotest.TestReader(stored, []byte(want)), "a stored body")
				f.ok(stored.Close(), "Close")
			}
		},
	},
	{
		name: "Empty",
		rule: "an empty body is a body",
		run: func(f *fixture) {
			e := f.owned("")
			if e.Size != 0 {
				f.fail("Size of an entry with an empty body: got %d, want 0", e.Size)
			}
			f.has(e.Body, "")
		},
	},
	{
		name: "BigStaged",
		rule: "Writer.Open reads what was written so far, however long it is",
		run: func(f *fixture) {
			want := noise(big)
			w := f.stage(want[:big/2])
			b, err := w.Open()
			f.ok(err, "Writer.Open")
			f.prefix(b, want[:big/2], want[:big/2])
			f.write(w, want[big/2:])
			b, err = w.Open()
			f.ok(err, "Writer.Open")
			f.reads(b, want)
		},
	},
	{
		name: "BigReadAt",
		rule: "ReadAt answers io.EOF only at the end, and is safe for concurrent use",
		run:  bigReadAt,
	},
	{
		name: "Position",
		rule: "a Body has one position, which ReadAt neither uses nor moves, and Seek sets from start, current or end",
		run:  bodyPosition,
	},
	{
		name: "Lifetime",
		rule: "a body goes with its last entry, and not before",
		run: func(f *fixture) {
			w := f.stage("shared")
			a, b := f.entry(w.ID()), f.entry(w.ID())
			f.ok(w.Commit(f.ctx, a, b), "Commit")
			f.apply(unit(spool.Remove, a))
			f.has(w.ID(), "shared")
			f.apply(unit(spool.Remove, b))
			f.lacks(w.ID(), "whose last entry was removed")
		},
	},
	{
		name: "RemovedWhileOpen",
		rule: "a Body stays readable until it is closed, even when its last entry is removed meanwhile",
		run: func(f *fixture) {
			for _, size := range []int{1000, big} {
				want := noise(size)
				e := f.owned(want)
				b, err := f.sp.Open(f.ctx, e.Body)
				f.ok(err, "Open")
				_, err = io.ReadFull(b, make([]byte, 10))
				f.ok(err, "Read")
				f.apply(unit(spool.Remove, e))
				f.owned(noise(size)) // which may reuse the space
				f.lacks(e.Body, "whose last entry was removed")
				f.reads(b, want)
			}
		},
	},
	{
		name: "NotFound",
		rule: "Open of a body that is not stored answers ErrNotFound",
		run: func(f *fixture) {
			e := f.owned("a body")
			f.lacks(spool.NewID(), "that nobody made")
			f.lacks(e.ID, "by the ID of an entry")
		},
	},
}

func bigReadAt(f *fixture) {
	want := noise(big)
	e := f.owned(want)
	b, err := f.sp.Open(f.ctx, e.Body)
	f.ok(err, "Open")
	defer b.Close()

	errs := make(chan error, 4)
	var wg sync.WaitGroup
	for range cap(errs) {
		wg.Go(func() {
			for range 50 {
				off := rand.IntN(big)
				buf := make([]byte, rand.IntN(100_000))
				n, err := b.ReadAt(buf, int64(off))
				left := want[off:min(off+len(buf), big)]
				if string(buf[:n]) != left || (err != nil && (err != io.EOF || off+len(buf) < big)) {
					errs <- fmt.Errorf("ReadAt of %d bytes at %d of %d: got %d bytes, error %v", len(buf), off, big, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	f.ok(<-errs, "concurrent ReadAt")
	if n, err := b.ReadAt(make([]byte, 10), big); n != 0 || err != io.EOF {
		f.fail("ReadAt at the end: got %d, %v, want 0, io.EOF", n, err)
	}
	if n, err := b.ReadAt(make([]byte, 10), big-4); n != 4 || err != io.EOF {
		f.fail("ReadAt across the end: got %d, %v, want 4, io.EOF", n, err)
	}
}

func bodyPosition(f *fixture) {
	const text = "0123456789"
	e := f.owned(text)
	b, err := f.sp.Open(f.ctx, e.Body)
	f.ok(err, "Open")
	defer b.Close()
	read := func(n int, want string) {
		f.t.Helper()
		buf := make([]byte, n)
		if _, err := io.ReadFull(b, buf); err != nil || string(buf) != want {
			f.fail("Read: got %q, %v, want %q", buf, err, want)
		}
	}
	seek := func(off int64, whence int, want int64) {
		f.t.Helper()
		if pos, err := b.Seek(off, whence); err != nil || pos != want {
			f.fail("Seek(%d, %d): got %d, %v, want %d", off, whence, pos, err, want)
		}
	}
	read(3, "012")
	buf := make([]byte, 2)
	if n, err := b.ReadAt(buf, 8); n != 2 || !bytes.Equal(buf, []byte("89")) || err != nil && err != io.EOF {
		f.fail("ReadAt(8): got %q, %v, want \"89\"", buf, err)
	}
	read(2, "34")
	seek(-1, io.SeekCurrent, 4)
	read(1, "4")
	seek(-2, io.SeekEnd, 8)
	read(2, "89")
	if n, err := b.Read(buf); n != 0 || err != io.EOF {
		f.fail("Read at the end: got %d, %v, want 0, io.EOF", n, err)
	}
	seek(5, io.SeekStart, 5)
	if pos, err := b.Seek(-1, io.SeekStart); err == nil {
		f.fail("Seek before the start: got %d, want an error", pos)
	}
	if n, err := b.ReadAt(buf, -1); err == nil || err == io.EOF {
		f.fail("ReadAt before the start: got %d, %v, want an error", n, err)
	}
	read(1, "5")
}

// noise returns a body of n bytes that no two calls agree on, of every value.
func noise(n int) string {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	buf := make([]byte, n)
	rand.NewChaCha8(seed).Read(buf)
	return string(buf)
}
