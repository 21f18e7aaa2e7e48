package vfstest

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// ErrPower is the error of every operation after the power was cut.
var ErrPower = errors.New("the power is gone")

// A Crash is a file system in memory that forgets when the power is cut. Of the
// blocks that were written since the last sync of their file any subset survives,
// in any of the versions that they had, some torn between two of them; so does any
// subset of the directory entries that were made, renamed or removed since the
// last sync of their directory. A rename survives whole or not at all.
type Crash struct {
	mu struct {
		sync.Mutex
		rng      *rand.Rand
		ops, cut int
		root     *node
		objects  map[string]any
	}
	// NoSync and NoSyncDir let syncs do nothing, to show that this is noticed.
	NoSync, NoSyncDir bool
}

// NewCrash returns an empty file system. Directories above the first that is made
// are there. What survives depends on rng alone.
func NewCrash(rng *rand.Rand) *Crash {
	c := &Crash{}
	c.mu.rng, c.mu.root, c.mu.objects = rng, newDir(), make(map[string]any)
	return c
}

// Cut lets the power be cut at that operation from now on, counted from 1; 0 is
// never. It returns how many there were before.
func (c *Crash) Cut(at int) (ops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ops, c.mu.ops, c.mu.cut = c.mu.ops, 0, at
	return ops
}

// After returns what is left after a power cut now.
func (c *Crash) After() *Crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	after := NewCrash(c.mu.rng)
	after.NoSync, after.NoSyncDir = c.NoSync, c.NoSyncDir
	after.mu.root = c.mu.root.after(c.mu.rng, make(map[*node]*node))
	after.mu.objects = maps.Clone(c.mu.objects)
	return after
}

// Object and SetObject keep something that is replaced whole and durably, such as
// the contents of a database.
func (c *Crash) Object(name string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.objects[name]
}

// SetObject replaces an object.
func (c *Crash) SetObject(name string, v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.objects[name] = v
}

// step does an operation. The one at which the power is cut may still take place.
func (c *Crash) step(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ops++
	if c.mu.cut == 0 || c.mu.ops < c.mu.cut {
		return do()
	}
	if c.mu.ops == c.mu.cut && c.mu.rng.IntN(2) == 0 {
		_ = do()
	}
	return ErrPower
}

// A node is a file or a directory.
type node struct {
	isDir bool

	// Of a directory: what it holds, what it held at its last sync, and what was done
	// in between.
	entries, durable map[string]*node
	pending          []dirOp

	// Of a file: its blocks that are not zeros, and its sizes since the last sync, the
	// present one last.
	blocks map[int64]*block
	sizes  []int64
}

// A dirOp is a change of a directory: n gets the name to, and loses the name from.
type dirOp struct {
	from, to string
	n        *node
}

func newDir() *node {
	return &node{isDir: true, entries: make(map[string]*node), durable: make(map[string]*node)}
}

func newFile() *node { return &node{blocks: make(map[int64]*block), sizes: []int64{0}} }

func (op *dirOp) apply(entries map[string]*node) {
	if op.from != "" {
		if entries[op.from] != op.n {
			return // it never came to be
		}
		delete(entries, op.from)
	}
	if op.to != "" {
		entries[op.to] = op.n
	}
}

func (n *node) do(op dirOp) {
	op.apply(n.entries)
	n.pending = append(n.pending, op)
}

// after returns what is left of a node. The same one twice stays the same.
func (n *node) after(rng *rand.Rand, done map[*node]*node) *node {
	if left := done[n]; left != nil {
		return left
	}
	if !n.isDir {
		left := n.fileAfter(rng)
		done[n] = left
		return left
	}
	left := newDir()
	done[n] = left
	entries := maps.Clone(n.durable)
	for i := range n.pending {
		if rng.IntN(2) == 0 {
			n.pending[i].apply(entries)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) { // rng has an order
		left.durable[name] = entries[name].after(rng, done)
	}
	left.entries = maps.Clone(left.durable)
	return left
}

const (
	blockSize  = 4096
	sectorSize = 512
)

// A block is what a block of a file was at its last sync, nil for zeros, and the
// versions that it had since. If it is clean, no sync makes them durable before it
// is written again.
type block struct {
	durable  []byte
	versions [][]byte
	clean    bool
}

func (b *block) current() []byte {
	if n := len(b.versions); n > 0 {
		return b.versions[n-1]
	}
	return b.durable
}

func (b *block) sync() {
	if !b.clean {
		b.durable, b.versions = b.current(), nil
	}
}

func (b *block) write(version []byte) {
	b.versions, b.clean = append(b.versions, version), false
}

// after returns one of the versions, or one torn between two.
func (b *block) after(rng *rand.Rand) []byte {
	pick := func() []byte {
		if i := rng.IntN(len(b.versions) + 1); i > 0 {
			return b.versions[i-1]
		}
		return b.durable
	}
	first := pick()
	if len(b.versions) == 0 || rng.IntN(4) > 0 {
		return first
	}
	torn := make([]byte, blockSize)
	copy(torn, first)
	at := sectorSize * rng.IntN(blockSize/sectorSize)
	clear(torn[at:])
	if second := pick(); second != nil {
		copy(torn[at:], second[at:])
	}
	return torn
}

func (n *node) size() int64 { return n.sizes[len(n.sizes)-1] }

func (n *node) setSize(size int64) { n.sizes = append(n.sizes, size) }

func (n *node) fileAfter(rng *rand.Rand) *node {
	left := newFile()
	left.sizes[0] = n.sizes[rng.IntN(len(n.sizes))]
	for _, at := range slices.Sorted(maps.Keys(n.blocks)) {
		data, end := n.blocks[at].after(rng), left.sizes[0]-at*blockSize
		if data == nil || end <= 0 {
			continue
		}
		if end < blockSize {
			data = append(make([]byte, 0, blockSize), data[:end]...)[:blockSize]
		}
		left.blocks[at] = &block{durable: data}
	}
	return left
}

func (n *node) syncFile() {
	for at, b := range n.blocks {
		if b.sync(); b.durable == nil && b.versions == nil {
			delete(n.blocks, at)
		}
	}
	n.sizes = []int64{n.size()}
}

// failSync is a sync that fails as on Linux: what was to be written counts as
// clean, is read as it is until the power is cut, and the next sync succeeds.
func (n *node) failSync() {
	for _, b := range n.blocks {
		b.clean = len(b.versions) > 0
	}
}

func (n *node) write(p []byte, off int64) {
	if end := off + int64(len(p)); end > n.size() {
		n.setSize(end)
	}
	for len(p) > 0 {
		at, within := off/blockSize, off%blockSize
		k := min(blockSize-int(within), len(p))
		b := n.blocks[at]
		if b == nil {
			b = &block{}
			n.blocks[at] = b
		}
		version := make([]byte, blockSize)
		copy(version, b.current())
		copy(version[within:], p[:k])
		b.write(version)
		p, off = p[k:], off+int64(k)
	}
}

func (n *node) truncate(size int64) {
	for at, b := range n.blocks {
		if start := at * blockSize; start+blockSize > size && b.current() != nil {
			version := make([]byte, blockSize)
			copy(version, b.current()[:max(0, size-start)])
			b.write(version)
		}
	}
	n.setSize(size)
}

// find returns the directory of a name, and the node with it, nil if there is
// none.
func (c *Crash) find(name string) (dir, n *node, base string, err error) {
	dir = c.mu.root
	parent, base := filepath.Split(filepath.Clean(name))
	for _, part := range splitPath(parent) {
		next := dir.entries[part]
		if next == nil || !next.isDir {
			return nil, nil, base, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		dir = next
	}
	return dir, dir.entries[base], base, nil
}

func splitPath(name string) []string {
	return strings.FieldsFunc(filepath.Clean(name), func(r rune) bool { return r == filepath.Separator })
}

// MakeParents makes the directories above a name, durably.
func (c *Crash) MakeParents(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir := c.mu.root
	for _, part := range splitPath(filepath.Dir(name)) {
		if dir.entries[part] == nil {
			n := newDir()
			dir.entries[part], dir.durable[part] = n, n
		}
		dir = dir.entries[part]
	}
}

// OpenFile opens or makes a file.
func (c *Crash) OpenFile(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	var f *node
	open := func() error {
		dir, n, base, err := c.find(name)
		switch {
		case err != nil:
			return err
		case n == nil && flag&os.O_CREATE == 0:
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case n != nil && flag&os.O_EXCL != 0:
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
		case n == nil:
			n = newFile()
			dir.do(dirOp{to: base, n: n})
		case flag&os.O_TRUNC != 0:
			n.truncate(0)
		}
		f = n
		return nil
	}
	if flag&os.O_CREATE != 0 {
		if err := c.step(open); err != nil {
			return nil, err
		}
		return &crashFile{c, f}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := open(); err != nil {
		return nil, err
	}
	return &crashFile{c, f}, nil
}

// Rename renames a file within its directory, or to another one.
func (c *Crash) Rename(from, to string) error {
	return c.step(func() error {
		dir, n, base, err := c.find(from)
		if err != nil || n == nil {
			return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
		}
		dir2, _, base2, err := c.find(to)
		if err != nil {
			return err
		}
		if dir == dir2 {
			dir.do(dirOp{from: base, to: base2, n: n})
			return nil
		}
		dir2.do(dirOp{to: base2, n: n}) // as by link and unlink: a cut may leave both
		dir.do(dirOp{from: base, n: n})
		return nil
	})
}

// Remove removes a file.
func (c *Crash) Remove(name string) error {
	return c.step(func() error {
		dir, n, base, err := c.find(name)
		if err != nil || n == nil {
			return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
		}
		dir.do(dirOp{from: base, n: n})
		return nil
	})
}

// Mkdir makes a directory.
func (c *Crash) Mkdir(name string, _ fs.FileMode) error {
	return c.step(func() error {
		dir, n, base, err := c.find(name)
		if err != nil {
			return err
		}
		if n != nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
		}
		dir.do(dirOp{to: base, n: newDir()})
		return nil
	})
}

// SyncDir makes the entries of a directory durable.
func (c *Crash) SyncDir(name string) error {
	return c.step(func() error {
		_, n, _, err := c.find(name)
		if len(splitPath(name)) == 0 {
			n = c.mu.root
		}
		if n == nil || !n.isDir {
			return errors.Join(err, &fs.PathError{Op: "sync", Path: name, Err: fs.ErrNotExist})
		}
		if !c.NoSyncDir {
			n.durable, n.pending = maps.Clone(n.entries), nil
		}
		return nil
	})
}

// ReadDir lists a directory.
func (c *Crash) ReadDir(name string) ([]fs.DirEntry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, n, _, err := c.find(name)
	if err != nil || n == nil || !n.isDir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	var list []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		list = append(list, newDirEntry(name, n.entries[name]))
	}
	return list, nil
}

// Free returns a lot.
func (c *Crash) Free(string) (vfs.Room, error) { return vfs.Room{Bytes: 1 << 40, Inodes: 1 << 40}, nil }

// Do calls do, or does not.
func (c *Crash) Do(_, _ string, do func() error) error {
	c.mu.Lock()
	c.mu.ops++
	cut := c.mu.cut > 0 && c.mu.ops >= c.mu.cut
	late := c.mu.ops == c.mu.cut && c.mu.rng.IntN(2) == 0
	c.mu.Unlock()
	if !cut {
		return do()
	}
	if late {
		_ = do()
	}
	return ErrPower
}
