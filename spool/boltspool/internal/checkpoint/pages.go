package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// bbolt trusts its pages: where one is damaged it panics, in goroutines of its
// own too, or reads beyond the end of the mapping, and takes the process with
// it. So the structure of all pages that can be reached is verified before bbolt
// sees the file. What the values hold has checksums of its own.

const (
	pageHeader  = 16
	pageElement = 16
	metaSize    = 64 // without the page header
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageFreelist = 0x10
	leafBucket   = 0x01 // flag of an element
	noFreelist   = ^uint64(0)
	maxPageRun   = 1 << 18 // pages of one record: 1 GiB of 4 KiB
)

// A pageWalk visits the pages of an index file.
type pageWalk struct {
	f        io.ReaderAt
	pageSize int64
	pages    uint64 // bbolt uses those below
	seen     []uint64
}

// verifyPages returns what is wrong with the structure of an index file, or the
// walk that found nothing.
func verifyPages(f vfs.File) (*pageWalk, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return walkPages(f, size)
}

func walkPages(f io.ReaderAt, size int64) (*pageWalk, error) {
	m, err := readMeta(f, size)
	if err != nil {
		return nil, err
	}
	if m.pages > uint64(size/m.pageSize) {
		return nil, fmt.Errorf("the file has %d pages of %d", size/m.pageSize, m.pages)
	}
	w := &pageWalk{f: f, pageSize: m.pageSize, pages: m.pages, seen: make([]uint64, m.pages/64+1)}
	if m.freelist != noFreelist {
		p, err := w.page(m.freelist)
		if err != nil {
			return nil, err
		}
		if err := checkFreelist(p); err != nil {
			return nil, err
		}
	}
	return w, w.tree(m.root, nil, nil)
}

// used returns how many bytes are in pages that were visited.
func (w *pageWalk) used() int64 {
	n := 2 // the meta pages
	for _, word := range w.seen {
		n += bits.OnesCount64(word)
	}
	return int64(n) * w.pageSize
}

// A pageMeta is what the newest valid meta page says.
type pageMeta struct {
	at                          int64 // where it stands
	pageSize                    int64
	root, freelist, pages, txid uint64
}

// readMeta finds the meta page that bbolt will use.
func readMeta(f io.ReaderAt, size int64) (best pageMeta, err error) {
	found := false
	first := make([]byte, pageHeader+metaSize)
	for at := int64(0); at <= 1<<24 && at+int64(len(first)) <= size; at = max(2*at, 1<<10) {
		if _, err := f.ReadAt(first, at); err != nil {
			return best, err
		}
		m, ok := parseMeta(first[pageHeader:])
		if !ok || at != 0 && at != m.pageSize {
			continue
		}
		if !found || m.txid > best.txid {
			best, found = m, true
			best.at = at
		}
	}
	if !found {
		return best, errors.New("no valid meta page")
	}
	return best, nil
}

// confirm makes the last commit durable: the process may not have lived to see the sync
// of its meta page, or that has failed. After a failed one Linux takes what it could not
// write for written, and the next sync succeeds: so the page is written again. What the
// commit says is not needed any more is deleted from here on.
func confirm(f vfs.File) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	m, err := readMeta(f, size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	page := make([]byte, m.pageSize)
	if _, err := f.ReadAt(page, m.at); err != nil {
		return err
	}
	if _, err := f.WriteAt(page, m.at); err != nil && !errors.Is(vfs.WriteError(err), vfs.ErrNoSpace) {
		return err
	}
	return f.Sync() // a full disk that writes elsewhere what is written again must not keep the spool shut
}

func parseMeta(b []byte) (m pageMeta, ok bool) {
	le := binary.LittleEndian
	if le.Uint32(b) != metaMagic || le.Uint32(b[4:]) != metaVersion {
		return m, false
	}
	h := fnv.New64a()
	h.Write(b[:metaSize-8])
	if h.Sum64() != le.Uint64(b[metaSize-8:]) {
		return m, false
	}
	m = pageMeta{
		pageSize: int64(le.Uint32(b[8:])), root: le.Uint64(b[16:]),
		freelist: le.Uint64(b[32:]), pages: le.Uint64(b[40:]), txid: le.Uint64(b[48:]),
	}
	return m, m.pageSize >= 1<<10 && m.pageSize <= 1<<24
}

// page reads a page with its overflow, each once.
func (w *pageWalk) page(id uint64) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, fmt.Errorf("a reference to page %d of %d", id, w.pages)
	}
	head := make([]byte, w.pageSize)
	if _, err := w.f.ReadAt(head, int64(id)*w.pageSize); err != nil {
		return nil, err
	}
	if got := binary.LittleEndian.Uint64(head); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	run := uint64(binary.LittleEndian.Uint32(head[12:])) + 1
	if run > maxPageRun || id+run > w.pages {
		return nil, fmt.Errorf("page %d goes on for %d pages", id, run)
	}
	for i := id; i < id+run; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, fmt.Errorf("two references to page %d", i)
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	if run == 1 {
		return head, nil
	}
	p := make([]byte, int64(run)*w.pageSize)
	_, err := w.f.ReadAt(p, int64(id)*w.pageSize)
	return p, err
}

// tree verifies a page and everything below it, where each key lies from low up
// to, but not including, high; nil is no limit.
func (w *pageWalk) tree(id uint64, low, high []byte) error {
	p, err := w.page(id)
	if err != nil {
		return err
	}
	if err := w.elements(p, low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements verifies the contents of a page.
func (w *pageWalk) elements(p, low, high []byte) error {
	flags, count := binary.LittleEndian.Uint16(p[8:]), int(binary.LittleEndian.Uint16(p[10:]))
	if flags != pageBranch && flags != pageLeaf {
		return fmt.Errorf("neither a branch nor a leaf: flags %#x", flags)
	}
	if pageHeader+count*pageElement > len(p) || count == 0 && flags == pageBranch {
		return fmt.Errorf("%d elements", count)
	}
	for i := range count {
		e := p[pageHeader+i*pageElement:]
		key, value, err := element(e, flags)
		if err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		if c := bytes.Compare(key, low); c < 0 || c == 0 && i > 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("element %d is out of order", i)
		}
		low = key
		switch {
		case flags == pageBranch:
			next := high
			if i+1 < count {
				if next, _, err = element(e[pageElement:], flags); err != nil {
					return fmt.Errorf("element %d: %w", i+1, err)
				}
			}
			err = w.tree(binary.LittleEndian.Uint64(e[8:]), key, next)
		case binary.LittleEndian.Uint32(e)&leafBucket != 0:
			err = w.bucket(value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// element returns key and value of the element at the front of e.
func element(e []byte, flags uint16) (key, value []byte, err error) {
	le := binary.LittleEndian
	pos, ksize, vsize := uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])), uint64(0)
	if flags == pageLeaf {
		pos, ksize, vsize = uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
	}
	if pos < pageElement || pos+ksize+vsize > uint64(len(e)) {
		return nil, nil, errors.New("it lies outside of the page")
	}
	return e[pos : pos+ksize], e[pos+ksize : pos+ksize+vsize], nil
}

// bucket verifies a bucket, inline or with pages of its own.
func (w *pageWalk) bucket(value []byte) error {
	if len(value) < 16 {
		return errors.New("a bucket without header")
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return w.tree(root, nil, nil)
	}
	if len(value) < 16+pageHeader {
		return errors.New("an inline bucket without page")
	}
	return w.elements(value[16:], nil, nil)
}

func checkFreelist(p []byte) error {
	if binary.LittleEndian.Uint16(p[8:]) != pageFreelist {
		return errors.New("the list of free pages is none")
	}
	n, room := uint64(binary.LittleEndian.Uint16(p[10:])), uint64(len(p)-pageHeader)/8
	if n == 0xFFFF {
		n = binary.LittleEndian.Uint64(p[pageHeader:]) + 1
	}
	if n > room {
		return fmt.Errorf("the list of free pages has %d in room for %d", n, room)
	}
	return nil
}
