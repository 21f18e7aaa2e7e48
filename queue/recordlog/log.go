package recordlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// maxPending is how many bytes of records that were taken may wait to be on disk.
const maxPending = 8 << 20

var (
	// ErrClosed is what Record answers after Close.
	ErrClosed = errors.New("recordlog: the log is closed")
	// ErrInUse is what Open answers while another Log writes into the directory.
	ErrInUse = errors.New("recordlog: another log writes into the directory")
)

// A Log writes records. Its methods are safe for concurrent use.
type Log struct {
	dir  string
	opts Options
	fs   fileSystem

	lock *os.File      // of the directory
	wake chan struct{} // something is to be written at once
	done chan struct{} // the writer has ended

	mu struct {
		sync.Mutex
		batch   *batch
		failing map[string]bool // suffixes of which the last attempt to write failed
		closed  bool
	}

	streams map[string]*stream // by suffix; the writer's
	names   *lastNames         // the writer's
}

// A batch is the records that are written next.
type batch struct {
	lines  []line
	bytes  int
	asked  bool // somebody waits for all that was taken
	rotate bool // and wants all segments finished
	done   chan struct{}
	errs   map[string]error // by suffix
}

func (b *batch) err() error {
	var errs []error
	for _, err := range b.errs {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// A line is one record for one stream.
type line struct {
	suffix string
	text   []byte
	at     time.Time
	waits  bool // its caller is told whether it was written
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Open returns a Log that writes into a directory, which is made if need be. What a
// process that is gone has left there is finished. While another Log has the directory
// the error is [ErrInUse]. nil opts are the defaults.
func Open(dir string, opts *Options) (*Log, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	return open(dir, o, osFiles{})
}

func open(dir string, opts Options, fs fileSystem) (*Log, error) {
	if dir == "" {
		return nil, errors.New("recordlog: Open: the name of the directory is empty")
	}
	if err := makeDir(dir, fs); err != nil {
		return nil, fmt.Errorf("recordlog: Open: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	if err := finishOrphans(dir, opts.Logger); err != nil {
		return nil, errors.Join(fmt.Errorf("recordlog: Open: finishing what another process has left: %w", err), lock.Close())
	}
	l := &Log{
		dir: dir, opts: opts, fs: fs, lock: lock, names: readNames(lock), wake: make(chan struct{}, 1), done: make(chan struct{}),
		streams: map[string]*stream{},
	}
	l.mu.batch = newBatch()
	go l.write()
	return l, nil
}

// makeDir makes a directory, if need be, for good: records in it are said to be durable.
func makeDir(dir string, fs fileSystem) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(dir, 0o750) // which tells a file from a directory
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return fs.syncDir(filepath.Dir(filepath.Clean(dir)))
}

// Record takes a record, as [queue.Options.Record] asks for. It returns nil for that
// of a message's end only when it is on disk, and for others when they will be. It
// waits for the disk; an error, ctx's among them, means that the record may not have
// been taken, and that Record is to be called again with it.
func (l *Log) Record(ctx context.Context, r queue.Record) error {
	per := l.opts.of(r.Type)
	if per.Off || l.opts.Filter != nil && !l.opts.Filter(&r) {
		return nil
	}
	r.Meta, r.Headers = selectFields(r.Meta, per.Meta, false), selectFields(r.Headers, per.Headers, true)
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("recordlog: encoding a record of %s: %w", r.ID, err)
	}
	b, err := l.add(line{per.Suffix, append(text, '\n'), r.Time, isEnd(r.Type)})
	if b == nil {
		return err
	}
	if err := b.wait(ctx); err != nil {
		return err
	}
	return b.errs[per.Suffix]
}

// isEnd reports whether records of a type may be those of a message's end.
func isEnd(t queue.RecordType) bool {
	switch t {
	case queue.Delivery, queue.Bounce, queue.Expiration, queue.AdminBounce:
		return true
	}
	return false
}

// add puts a line into the next batch, and returns that if its caller has to wait.
func (l *Log) add(one line) (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil, ErrClosed
	}
	b := l.mu.batch
	one.waits = one.waits || l.mu.failing[one.suffix] || b.bytes > maxPending
	b.lines = append(b.lines, one)
	b.bytes += len(one.text)
	if !one.waits {
		return nil, nil
	}
	l.hurry()
	return b, nil
}

// hurry has the batch written at once. mu is held.
func (l *Log) hurry() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (b *batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("recordlog: a record may not have been written: %w", context.Cause(ctx))
	}
}

// Flush writes all that was taken to disk.
func (l *Log) Flush(ctx context.Context) error { return l.flush(ctx, false) }

// Rotate is Flush, and finishes all segments: those who archive them need not wait
// for their time to be over.
func (l *Log) Rotate(ctx context.Context) error { return l.flush(ctx, true) }

func (l *Log) flush(ctx context.Context, rotate bool) error {
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	b := l.mu.batch
	b.asked, b.rotate = true, b.rotate || rotate
	l.hurry()
	l.mu.Unlock()
	if err := b.wait(ctx); err != nil {
		return err
	}
	return b.err()
}

// Close writes all that was taken, and finishes all segments. Close it after
// [queue.Scheduler.Run] has returned. A second Close answers ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.mu.closed = true
	b := l.mu.batch
	b.asked, b.rotate = true, true
	l.hurry()
	l.mu.Unlock()
	<-l.done
	return errors.Join(b.err(), l.lock.Close())
}

// write owns the segments.
func (l *Log) write() {
	defer close(l.done)
	tick := time.NewTicker(l.opts.FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.wake:
		case <-tick.C:
		}
		b, closed := l.take()
		l.writeBatch(b)
		failing := map[string]bool{}
		for suffix := range b.errs {
			failing[suffix] = true
		}
		l.mu.Lock()
		l.mu.failing = failing
		l.mu.Unlock()
		close(b.done)
		if closed {
			return
		}
	}
}

// take returns the batch to be written, and begins another one.
func (l *Log) take() (b *batch, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b = l.mu.batch
	l.mu.batch = newBatch()
	return b, l.mu.closed
}

// writeBatch makes a batch durable.
func (l *Log) writeBatch(b *batch) {
	for _, one := range b.lines {
		s := l.streams[one.suffix]
		if s == nil {
			s = &stream{log: l, suffix: one.suffix}
			l.streams[one.suffix] = s
		}
		s.unsynced = append(s.unsynced, one)
	}
	b.errs = map[string]error{}
	for suffix, s := range l.streams {
		if err := s.flush(b.rotate, b.asked); err != nil {
			b.errs[suffix] = err
		}
	}
}
