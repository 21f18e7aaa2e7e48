package boltspool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// Backup writes a copy of the spool to dir, which must not exist or be empty, and
// can be opened as a spool. The copy is what the spool holds at some moment during
// the call, all of it, and durable when Backup returns nil; after an error nothing
// stays of it. Everything else goes on meanwhile, but space is not used again
// before the copy is ready, so that the spool may grow by what passes through it.
// What is damaged in the spool is so in the copy. Close ends a Backup with
// spool.ErrClosed. Several may run at a time.
//
// Whoever opens the copy while the original lives on sends messages twice: open it
// with Options.ReadOnly to look, or when the original is gone.
func (s *Spool) Backup(ctx context.Context, dir string) (err error) {
	s.backups.RLock()
	defer s.backups.RUnlock()
	if err := s.writable(); err != nil {
		return err
	}
	release := s.keepFiles()
	defer release()
	b := &backup{s: s, ctx: ctx, fs: s.fs, dir: dir}
	if err := b.run(); err != nil {
		b.undo()
		return fmt.Errorf("boltspool: backup of %s to %s: %w", s.dir, dir, err)
	}
	return nil
}

// keepFiles has everything stay that is there, until release is called.
func (s *Spool) keepFiles() (release func()) {
	let := s.log.Keep()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.kept++
	return func() {
		let()
		s.mu.Lock()
		var discarded []string
		if s.mu.kept--; s.mu.kept == 0 {
			discarded, s.mu.discarded = s.mu.discarded, nil
		}
		s.mu.Unlock()
		for _, name := range discarded {
			s.removeFile(name)
		}
		s.keeper.hint()
	}
}

// A backup is one Backup in progress.
type backup struct {
	s    *Spool
	ctx  context.Context
	fs   vfs.FS
	dir  string
	made []string // files and directories, to be removed if it fails
	buf  []byte
}

func (b *backup) run() error {
	if err := b.wanted(); err != nil {
		return err
	}
	if err := b.makeDirs(); err != nil {
		return err
	}
	if err := b.checkpoint(); err != nil {
		return err
	}
	state, err := b.copyIndex()
	if err != nil {
		return err
	}
	m := b.moment()
	if err := b.copySegments(state.Place.Segment(), m); err != nil {
		return err
	}
	if m.uncertain {
		if m.files, err = b.allFiles(); err != nil {
			return err
		}
	}
	if err := b.copyFiles(m.files); err != nil {
		return err
	}
	if err := b.sayEnd(m.end); err != nil {
		return err
	}
	return b.finish()
}

// wanted returns why the backup is not to go on.
func (b *backup) wanted() error {
	if b.s.closed.Load() {
		return spool.ErrClosed
	}
	return b.ctx.Err()
}

// checkpoint brings the index up to date, so that the copy has little of the log
// to read.
func (b *backup) checkpoint() error {
	s, err := b.s, error(nil)
	running := s.keeper.run(func() {
		if err = s.failed(); err != nil {
			return
		}
		if err = s.keeper.checkpoint(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			err = s.fail(err)
		}
	})
	switch {
	case !running:
		return spool.ErrClosed
	case errors.Is(err, vfs.ErrNoSpace): // the copy has more to read then
		return nil
	}
	return err
}

// A moment is what the copy is to hold: the log up to here, of which the copy of
// the index knows a part.
type moment struct {
	end       seglog.Place
	segments  []seglog.Usage
	files     []spool.ID
	uncertain bool // all is to be copied, since it is not known what is needed
}

func (b *backup) moment() moment {
	s := b.s
	s.publishing.Lock() // what is needed is that of the whole groups up to the end
	defer s.publishing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return moment{s.mu.end.Place, s.log.Usage(), s.mu.index.Files(), s.uncertain()}
}

func (b *backup) makeDirs() error {
	for _, name := range []string{b.dir, filepath.Join(b.dir, "seg"), filepath.Join(b.dir, "big")} {
		if err := b.makeDir(name); err != nil {
			return err
		}
		if files, err := b.fs.ReadDir(name); err != nil {
			return err
		} else if len(files) > 0 {
			return fmt.Errorf("%s is not empty", name)
		}
	}
	return nil
}

func (b *backup) makeDir(name string) error {
	err := b.fs.Mkdir(name, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		b.made = append(b.made, name)
	}
	return err
}

// create makes a file, hands it to fill, and makes its contents durable.
func (b *backup) create(name string, fill func(w io.Writer) error) (err error) {
	f, err := b.fs.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b.made = append(b.made, name)
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &backupWriter{b: b, w: io.NewOffsetWriter(f, 0)}
	if err := fill(w); err != nil {
		return cmp.Or(w.err, err) // bbolt keeps but the text of ours
	}
	return f.Sync()
}

// A backupWriter writes as long as the backup is to go on.
type backupWriter struct {
	b   *backup
	w   io.Writer
	err error
}

func (w *backupWriter) Write(p []byte) (n int, err error) {
	if err = w.b.wanted(); err == nil {
		n, err = w.w.Write(p)
	}
	w.err = err
	return n, err
}

func (b *backup) copyIndex() (state checkpoint.State, err error) {
	err = b.create(filepath.Join(b.dir, checkpoint.Name), func(w io.Writer) error {
		state, err = b.s.keeper.file.CopyTo(w)
		return err
	})
	return state, err
}

// copySegments copies those of which something is needed, or which stand behind
// the checkpoint, up to the end.
func (b *backup) copySegments(from uint32, m moment) error {
	for _, u := range m.segments {
		needed := u.Live > 0 || u.Segment >= from || m.uncertain
		if u.Segment > m.end.Segment() || !needed {
			continue
		}
		size := u.End
		if u.Segment == m.end.Segment() {
			size = m.end.Offset()
		}
		if err := b.copySegment(u.Segment, size); err != nil {
			return err
		}
	}
	return nil
}

func (b *backup) copySegment(n uint32, size int64) error {
	read := func(p []byte, off int64) (int, error) {
		defer b.s.log.Reading()()
		return b.s.log.ReadAt(p, seglog.At(n, off))
	}
	if _, err := read(nil, 0); isMissing(err) {
		b.s.logger.Warn("boltspool: a segment is missing, in the copy too", "dir", b.s.dir, "segment", seglog.SegmentName(n))
		return nil
	}
	return b.create(filepath.Join(b.dir, "seg", seglog.SegmentName(n)), func(w io.Writer) error {
		return b.copySome(w, read, size)
	})
}

// allFiles returns the bodies of which there are files.
func (b *backup) allFiles() (ids []spool.ID, err error) {
	dirs, err := b.fs.ReadDir(b.s.bigDir)
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		files, err := b.fs.ReadDir(filepath.Join(b.s.bigDir, d.Name()))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if id, err := spool.ParseID(f.Name()); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

func (b *backup) copyFiles(ids []spool.ID) error {
	for _, id := range ids {
		from, _ := bigPath(b.s.bigDir, id)
		to, parent := bigPath(filepath.Join(b.dir, "big"), id)
		if err := b.makeDir(parent); err != nil {
			return err
		}
		f, err := b.fs.OpenFile(from, os.O_RDONLY, 0)
		if isMissing(err) {
			b.s.logger.Warn("boltspool: a body is missing, in the copy too", "dir", b.s.dir, "body", id)
			continue
		}
		if err != nil {
			return err
		}
		size, err := f.Size()
		if err == nil {
			err = b.create(to, func(w io.Writer) error { return b.copySome(w, f.ReadAt, size) })
		}
		if err := errors.Join(err, f.Close(), b.fs.SyncDir(parent)); err != nil {
			return err
		}
	}
	return nil
}

// copySome copies size bytes, or up to the end.
func (b *backup) copySome(w io.Writer, readAt func(p []byte, off int64) (int, error), size int64) error {
	if b.buf == nil {
		b.buf = make([]byte, 1<<20)
	}
	for off := int64(0); off < size; {
		p := b.buf[:min(int64(len(b.buf)), size-off)]
		n, err := readAt(p, off)
		if errors.Is(err, syscall.EIO) {
			b.s.logger.Warn("boltspool: something cannot be read, and is zeros in the copy", "dir", b.s.dir, "error", err)
			n, err = readAround(readAt, p, off)
		}
		if _, err := w.Write(b.buf[:n]); err != nil {
			return err
		}
		off += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readAround reads a page at a time. What the disk does not give is zeros, which their
// checksums tell from what stood there.
func readAround(readAt func(p []byte, off int64) (int, error), p []byte, off int64) (n int, err error) {
	const page = 4 << 10
	for n < len(p) {
		part := p[n:min(len(p), n+page-int((off+int64(n))%page))]
		got, err := readAt(part, off+int64(n))
		switch {
		case errors.Is(err, syscall.EIO):
			clear(part[got:])
		case err != nil:
			return n + got, err
		}
		n += len(part)
	}
	return n, nil
}

// sayEnd says up to where the log of the copy is durable: nothing of it is torn.
func (b *backup) sayEnd(end seglog.Place) error {
	return b.create(filepath.Join(b.dir, marksFile), func(w io.Writer) error {
		var opening spool.ID // of no process
		_, err := w.Write(append(opening[:], endMark(end)...))
		return err
	})
}

// finish makes the directories durable, and the copy a spool.
func (b *backup) finish() error {
	for _, name := range []string{filepath.Join(b.dir, "seg"), filepath.Join(b.dir, "big"), b.dir, filepath.Dir(b.dir)} {
		if err := b.fs.SyncDir(name); err != nil {
			return err
		}
	}
	name := filepath.Join(b.dir, "FORMAT")
	b.made = append(b.made, name+".tmp", name)
	return vfs.WriteFile(b.fs, name, []byte(formatText(b.s.id)))
}

// undo removes what was made.
func (b *backup) undo() {
	for i := len(b.made) - 1; i >= 0; i-- {
		_ = b.fs.Remove(b.made[i]) // what cannot be removed is no spool
	}
}
