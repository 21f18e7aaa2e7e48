package boltspool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// maxSegmentBody is the largest body that goes into a segment.
const maxSegmentBody = 1 << 20

// stageSizes are the sizes that a body grows through in memory.
var stageSizes = [...]int{4 << 10, 32 << 10, 256 << 10, maxSegmentBody}

// spaceCheck is how many bytes go into a big file before free space is looked
// at again.
const spaceCheck = 1 << 20

// A stagePool hands out the memory in which bodies are staged, and not more
// than max bytes of it at a time.
type stagePool struct {
	max   int64
	used  atomic.Int64
	pools [len(stageSizes)]sync.Pool
}

// A buffer is shared by its Writer and the bodies that the Writer opened, and
// goes back to the pool when the last of them lets go of it.
type buffer struct {
	b    []byte
	pool *stagePool
	size int // index into stageSizes
	refs atomic.Int32
}

// get returns a buffer for n bytes at least, or nil if the pool is exhausted.
func (p *stagePool) get(n int) *buffer {
	i := 0
	for i < len(stageSizes) && stageSizes[i] < n {
		i++
	}
	if i == len(stageSizes) {
		return nil
	}
	if p.used.Add(int64(stageSizes[i])) > p.max {
		p.used.Add(-int64(stageSizes[i]))
		return nil
	}
	b, ok := p.pools[i].Get().(*buffer)
	if !ok {
		b = &buffer{b: make([]byte, 0, stageSizes[i]), pool: p, size: i}
	}
	b.refs.Store(1)
	return b
}

func (b *buffer) release() {
	if b.refs.Add(-1) > 0 {
		return
	}
	b.b = b.b[:0]
	b.pool.used.Add(-int64(stageSizes[b.size]))
	b.pool.pools[b.size].Put(b)
}

// A stagedBody reads what was in a buffer when it was opened.
type stagedBody struct {
	memoryBody
	buf *buffer
}

func (b stagedBody) close() error {
	b.buf.release()
	return nil
}

type stageState uint8

const (
	staging   stageState = iota
	stored               // the index refers to it
	uncertain            // the index may refer to it: leave everything in place
	aborted
)

// A writer is the spool.Writer. Its owner waits while the committer uses it.
type writer struct {
	s     *Spool
	id    spool.ID
	state stageState
	sum   uint32     // CRC32C of what is in buf
	buf   *buffer    // nil before the first byte and once big is there
	big   *bigWriter // beyond what memory holds
	ready bool       // big is durable under its final name
	check int64      // size at which free space is looked at again

	brought broughtBody // the committer's
}

func (w *writer) ID() spool.ID { return w.id }

func (w *writer) size() int64 {
	switch {
	case w.big != nil:
		return w.big.size
	case w.buf != nil:
		return int64(len(w.buf.b))
	}
	return 0
}

// bytes returns the body as far as it is in memory.
func (w *writer) bytes() []byte {
	if w.buf == nil {
		return nil
	}
	return w.buf.b
}

func (w *writer) Write(p []byte) (int, error) {
	if w.state != staging {
		return 0, errors.New("boltspool: Write after Commit or Abort")
	}
	if err := w.s.usable(); err != nil {
		return 0, err
	}
	if limit := w.s.opts.MaxMessageSize; limit > 0 && w.size()+int64(len(p)) > limit {
		return 0, fmt.Errorf("boltspool: body of more than %d bytes: %w", limit, spool.ErrTooLarge)
	}
	if w.big == nil && !w.makeRoom(len(p)) {
		if err := w.spill(); err != nil {
			return 0, w.s.writeError(err)
		}
	}
	if w.big == nil {
		w.buf.b = append(w.buf.b, p...)
		w.sum = seglog.Update(w.sum, p)
		return len(p), nil
	}
	w.ready = false
	if w.big.size >= w.check {
		if err := w.s.checkStaging(); err != nil {
			return 0, err
		}
		w.check = w.big.size + spaceCheck
	}
	n, err := w.big.write(p)
	return n, w.s.writeError(err)
}

// makeRoom sees to it that n more bytes fit in memory, if they may.
func (w *writer) makeRoom(n int) bool {
	need := int(w.size()) + n
	if w.buf != nil && need <= cap(w.buf.b) {
		return true
	}
	if need > maxSegmentBody {
		return false
	}
	b := w.s.stage.get(need)
	if b == nil {
		return false
	}
	if w.buf != nil {
		b.b = append(b.b, w.buf.b...)
		w.buf.release()
	}
	w.buf = b
	return true
}

// spill moves the body from memory into a file.
func (w *writer) spill() error {
	name := filepath.Join(w.s.bigDir, stagePrefix+w.id.String())
	f, err := w.s.fs.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return vfs.OpenError(err)
	}
	big := &bigWriter{f: f, name: name}
	if w.buf != nil {
		if _, err := big.write(w.buf.b); err != nil {
			f.Close()
			w.s.fs.Remove(name)
			return err
		}
		w.buf.release()
		w.buf = nil
	}
	w.big = big
	return nil
}

// prepare makes a big file durable under its final name, to which nothing
// refers yet.
func (w *writer) prepare() error {
	if w.big == nil || w.ready || w.state != staging {
		return nil
	}
	b := w.big
	if _, err := b.f.WriteAt(appendTable(nil, b.table(), b.size), b.size); err != nil {
		return vfs.WriteError(err)
	}
	if err := b.f.Sync(); err != nil {
		return err
	}
	name, parent := bigPath(w.s.bigDir, w.id)
	if err := w.s.makeBigDir(parent); err != nil {
		return err
	}
	if b.name != name {
		if err := w.s.fs.Rename(b.name, name); err != nil {
			return vfs.WriteError(err)
		}
		b.name = name
	}
	if err := w.s.fs.SyncDir(parent); err != nil {
		return err
	}
	w.ready = true
	return nil
}

func (w *writer) Open() (spool.Body, error) {
	switch {
	case w.state == aborted:
		return nil, fmt.Errorf("boltspool: body %s was aborted: %w", w.id, spool.ErrNotFound)
	case w.state == uncertain:
		return nil, w.s.usable()
	case w.state == stored:
		return w.s.Open(context.Background(), w.id)
	case w.big != nil:
		f, err := w.s.fs.OpenFile(w.big.name, os.O_RDONLY, 0)
		if err != nil {
			return nil, w.s.readError(w.id, err)
		}
		return &body{src: newBigBody(f, w.big.size, w.big.table(), w.s.corruptBody(w.id))}, nil
	case w.buf != nil:
		w.buf.refs.Add(1)
		return &body{src: stagedBody{w.buf.b[:len(w.buf.b):len(w.buf.b)], w.buf}}, nil
	}
	return &body{src: memoryBody(nil)}, nil
}

func (w *writer) Commit(ctx context.Context, entries ...*spool.Entry) error {
	unit := make(spool.Unit, len(entries))
	for i, e := range entries {
		unit[i] = spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true}
	}
	if errs := w.s.Apply(ctx, unit); errs != nil {
		return errs[0]
	}
	return nil
}

// settle takes note of what became of the unit that brought the body.
func (w *writer) settle(state stageState) {
	w.state = state
	w.drop()
}

// drop lets go of memory and of the file, which stays.
func (w *writer) drop() {
	if w.buf != nil {
		w.buf.release()
		w.buf = nil
	}
	if w.big != nil && w.big.f != nil {
		w.big.f.Close()
		w.big.f = nil
	}
}

func (w *writer) Abort() error {
	if w.state != staging {
		return nil
	}
	w.state = aborted
	w.drop()
	if w.big == nil {
		return nil
	}
	// Nothing depends on the removal: what stays is an orphan, and deleted when
	// the spool is opened.
	w.s.removeFile(w.big.name)
	return nil
}
