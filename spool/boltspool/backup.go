package boltspool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
//
// Whoever opens the copy while the original lives on sends messages twice: open it
// with Options.ReadOnly to look, or when the original is gone.
func (s *Spool) Backup(ctx context.Context, dir string) (err error) {
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
	if err := b.makeDirs(); err != nil {
		return err
	}
	var err error
	if !b.s.keeper.run(func() { err = b.s.keeper.checkpoint() }) {
		return spool.ErrClosed
	}
	if err != nil && !errors.Is(err, vfs.ErrNoSpace) { // the copy has more of the log to read then
		return err
	}
	state, err := b.copyIndex()
	if err != nil {
		return err
	}
	// What the index says is in the log up to here, and so is what came since.
	b.s.mu.Lock()
	end, files := b.s.mu.end.Place, b.s.mu.index.Files()
	b.s.mu.Unlock()
	if err := b.copySegments(state.Place.Segment(), end); err != nil {
		return err
	}
	if err := b.copyFiles(files); err != nil {
		return err
	}
	return b.finish()
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
	if err := fill(io.NewOffsetWriter(f, 0)); err != nil {
		return err
	}
	return f.Sync()
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
func (b *backup) copySegments(from uint32, end seglog.Place) error {
	for _, u := range b.s.log.Usage() {
		if u.Segment > end.Segment() || u.Live == 0 && u.Segment < from && !u.Set {
			continue
		}
		size := u.End
		if u.Segment == end.Segment() {
			size = end.Offset()
		}
		err := b.create(filepath.Join(b.dir, "seg", seglog.SegmentName(u.Segment)), func(w io.Writer) error {
			return b.copySome(w, func(p []byte, off int64) (int, error) {
				defer b.s.log.Reading()()
				return b.s.log.ReadAt(p, seglog.At(u.Segment, off))
			}, size)
		})
		if err != nil {
			return err
		}
	}
	return nil
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
		if err := b.ctx.Err(); err != nil {
			return err
		}
		n, err := readAt(b.buf[:min(int64(len(b.buf)), size-off)], off)
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
