package boltspool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

const (
	// blockSize is how many bytes of a big body one checksum covers.
	blockSize   = 64 << 10
	bigMagic    = "DQBIGTB\x01"
	bigTrailer  = 20 // magic, size of the body, CRC32C of the table
	stagePrefix = "stage-"
)

// bigPath returns where the body lies, and the directory that holds it.
func bigPath(dir string, id spool.ID) (name, parent string) {
	s := id.String()
	parent = filepath.Join(dir, s[len(s)-2:]) // random, unlike the first two
	return filepath.Join(parent, s), parent
}

// makeBigDir makes a directory for big bodies, unless it is there, and its entry
// durable. Who finds it made by another must not rely on it before that has
// synced it.
func (s *Spool) makeBigDir(name string) error {
	s.bigDirs.Lock()
	defer s.bigDirs.Unlock()
	if s.bigDirs.durable[name] {
		return nil
	}
	if err := vfs.MakeDir(s.fs, name); err != nil {
		return err
	}
	s.bigDirs.durable[name] = true
	return nil
}

// A bigWriter writes a body to a file of its own, and keeps a CRC32C for each
// block: 4 bytes for 64 KiB.
type bigWriter struct {
	f    vfs.File
	name string
	size int64
	sums []uint32
	part uint32 // CRC32C of the last block as far as it is written
}

// write appends p; n bytes of it are in the body when it fails.
func (w *bigWriter) write(p []byte) (n int, err error) {
	n, err = w.f.WriteAt(p, w.size)
	w.account(p[:n])
	return n, vfs.WriteError(err)
}

func (w *bigWriter) account(p []byte) {
	for len(p) > 0 {
		k := min(blockSize-int(w.size%blockSize), len(p))
		w.part = seglog.Update(w.part, p[:k])
		w.size += int64(k)
		p = p[k:]
		if w.size%blockSize == 0 {
			w.sums = append(w.sums, w.part)
			w.part = 0
		}
	}
}

// table returns the checksums of all blocks, the last one included.
func (w *bigWriter) table() []uint32 {
	sums := w.sums[:len(w.sums):len(w.sums)]
	if w.size%blockSize != 0 {
		sums = append(sums, w.part)
	}
	return sums
}

// sum returns the checksum of the table.
func (w *bigWriter) sum() uint32 {
	table := appendTable(nil, w.table(), w.size)
	return seglog.Checksum(table[:len(table)-bigTrailer])
}

// appendTable writes the block table with its trailer to b.
func appendTable(b []byte, sums []uint32, size int64) []byte {
	start := len(b)
	for _, s := range sums {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	sum := seglog.Checksum(b[start:])
	b = append(b, bigMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	return binary.LittleEndian.AppendUint32(b, sum)
}

func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize }

// parseTable reads what appendTable wrote for a body of this size.
func parseTable(b []byte, size int64, sum uint32) ([]uint32, error) {
	n := blocks(size) * 4
	if int64(len(b)) != n+bigTrailer {
		return nil, fmt.Errorf("block table of %d bytes instead of %d", len(b), n+bigTrailer)
	}
	t := b[n:]
	switch {
	case string(t[:8]) != bigMagic:
		return nil, errors.New("no block table follows the body")
	case binary.LittleEndian.Uint64(t[8:]) != uint64(size):
		return nil, errors.New("block table of a body of another size")
	case seglog.Checksum(b[:n]) != sum || binary.LittleEndian.Uint32(t[16:]) != sum:
		return nil, errors.New("wrong checksum of the block table")
	}
	sums := make([]uint32, blocks(size))
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return sums, nil
}

// A bigBody reads and verifies a big body, block by block.
type bigBody struct {
	f    vfs.File
	size int64
	sums []uint32
	fail func(error) error // makes a CorruptError

	mu struct {
		sync.Mutex
		block  int64 // which block buf holds; -1 none
		buf    []byte
		closed bool
	}
}

func newBigBody(f vfs.File, size int64, sums []uint32, fail func(error) error) *bigBody {
	b := &bigBody{f: f, size: size, sums: sums, fail: fail}
	b.mu.block = -1
	return b
}

// openBig opens the body that b describes.
func openBig(fsys vfs.FS, dir string, id spool.ID, b index.Body, fail func(error) error) (*bigBody, error) {
	name, _ := bigPath(dir, id)
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	sums, err := readTable(f, b)
	if err != nil {
		f.Close()
		return nil, err
	}
	return newBigBody(f, b.Size, sums, fail), nil
}

func readTable(f vfs.File, b index.Body) ([]uint32, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if want := b.Size + 4*blocks(b.Size) + bigTrailer; size != want {
		return nil, fmt.Errorf("file of %d bytes instead of %d", size, want)
	}
	table := make([]byte, size-b.Size)
	if _, err := f.ReadAt(table, b.Size); err != nil {
		return nil, err
	}
	return parseTable(table, b.Size, b.Sum)
}

// tableBehind returns what the end of a file says of the body in it.
func tableBehind(f vfs.File) (b index.Body, err error) {
	size, err := f.Size()
	if err != nil || size < bigTrailer {
		return b, errors.Join(err, errors.New("file too short for a body"))
	}
	end := make([]byte, bigTrailer)
	if _, err := f.ReadAt(end, size-bigTrailer); err != nil {
		return b, err
	}
	b = index.Body{
		File: true, Size: int64(binary.LittleEndian.Uint64(end[len(bigMagic):])), Sum: binary.LittleEndian.Uint32(end[16:]),
	}
	if b.Size < 0 || b.Size > index.MaxBody {
		return b, fmt.Errorf("file of a body of %d bytes", b.Size)
	}
	_, err = readTable(f, b)
	return b, err
}

// readAt reads like io.ReaderAt, but may return fewer bytes without an error.
func (b *bigBody) readAt(p []byte, off int64) (int, error) {
	if off >= b.size {
		return 0, io.EOF
	}
	n := off / blockSize
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return 0, os.ErrClosed
	}
	if b.mu.block != n {
		if err := b.load(n); err != nil {
			return 0, err
		}
	}
	return copy(p, b.mu.buf[off%blockSize:]), nil
}

// load reads block n and verifies it.
func (b *bigBody) load(n int64) error {
	size := min(blockSize, b.size-n*blockSize)
	if b.mu.buf == nil {
		b.mu.buf = make([]byte, blockSize)
	}
	b.mu.block = -1
	b.mu.buf = b.mu.buf[:size]
	if _, err := b.f.ReadAt(b.mu.buf, n*blockSize); err == io.EOF {
		return b.fail(errors.New("file ends inside the body"))
	} else if err != nil {
		return b.fail(err)
	}
	if seglog.Checksum(b.mu.buf) != b.sums[n] {
		return b.fail(fmt.Errorf("wrong checksum of the block at byte %d", n*blockSize))
	}
	b.mu.block = n
	return nil
}

func (b *bigBody) len() int64 { return b.size }

func (b *bigBody) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	b.mu.buf = nil
	return b.f.Close()
}
