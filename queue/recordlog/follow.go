package recordlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// pollInterval is how often a follower looks for more.
const pollInterval = 200 * time.Millisecond

// errStopped ends the reading of a segment that is still written.
var errStopped = errors.New("recordlog: the follower was stopped")

// Follow is [Read], and then yields what is written from then on, until ctx is done:
// within half a second of when it is on disk, see [Options.FlushInterval]. Segments that
// come, are finished or go away are followed. With a [Cursor] that was advanced by each
// record that was dealt with, another Follow goes on where this one was ended.
//
// Records of several suffixes are yielded as they come. The directory must exist.
func Follow(ctx context.Context, dir string, q *Query) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		f := &follower{dir: dir, q: q, seen: map[string]bool{}, items: make(chan read)}
		var cancel context.CancelFunc
		f.ctx, cancel = context.WithCancel(ctx)
		defer f.tails.Wait()
		defer cancel()
		f.run(func(it *Item, err error) bool { return f.ctx.Err() == nil && yield(it, err) })
	}
}

// A follower owns one goroutine per segment that is being written.
type follower struct {
	ctx   context.Context
	dir   string
	q     *Query
	seen  map[string]bool
	items chan read
	tails sync.WaitGroup
}

// A read is what one of them has found.
type read struct {
	item *Item
	err  error
}

func (f *follower) run(yield func(*Item, error) bool) {
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case r := <-f.items:
			if !yield(r.item, r.err) {
				return
			}
		case <-poll.C:
			if !f.look(yield) {
				return
			}
			poll.Reset(pollInterval)
		case <-f.ctx.Done():
			return
		}
	}
}

// look reads segments that are new, and begins to follow those that are being written.
func (f *follower) look(yield func(*Item, error) bool) bool {
	names, err := segments(f.dir)
	if err != nil {
		yield(nil, fmt.Errorf("recordlog: %w", err))
		return false
	}
	for _, name := range f.q.matching(names) {
		if f.seen[name] {
			continue
		}
		f.seen[name] = true
		info, err := os.Stat(filepath.Join(f.dir, name))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			yield(nil, fmt.Errorf("recordlog: %w", err))
			return false
		case isFinished(info):
			if !readSegment(f.dir, name, f.q, yield) {
				return false
			}
		default:
			f.tails.Go(func() { f.tail(name) })
		}
	}
	return true
}

// tail reads one segment until it is finished.
func (f *follower) tail(name string) {
	send := func(item *Item, err error) bool {
		select {
		case f.items <- read{item, err}:
			return true
		case <-f.ctx.Done():
			return false
		}
	}
	file, err := os.Open(filepath.Join(f.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		send(nil, fmt.Errorf("recordlog: %w", err))
		return
	}
	defer file.Close()
	decode(&growing{f.ctx, file}, name, f.q, send)
}

// growing reads a file whose end is the end only when it is finished.
type growing struct {
	ctx  context.Context
	file *os.File
}

func (g *growing) Read(p []byte) (int, error) {
	for {
		info, err := g.file.Stat() // before reading: what was written until it was finished is then read
		if err != nil {
			return 0, err
		}
		n, err := g.file.Read(p)
		if n > 0 || err != io.EOF || isFinished(info) {
			return n, err
		}
		t := time.NewTimer(pollInterval)
		select {
		case <-t.C:
		case <-g.ctx.Done():
			t.Stop()
			return 0, errStopped
		}
	}
}
