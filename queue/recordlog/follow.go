package recordlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// pollInterval is how often a follower looks for more.
const pollInterval = 200 * time.Millisecond

// errStopped ends the reading of a segment that is still written.
var errStopped = errors.New("recordlog: the follower was stopped")

// Follow is [Read], and then yields what is written from then on, until ctx is done:
// within half a second of when it is on disk, see [Options.FlushInterval]. Segments that
// come, are finished or go away are followed, those of a suffix one after the other. With
// a [Cursor] that was advanced by each record that was dealt with, another Follow goes on
// where this one was ended.
//
// Records of several suffixes are yielded as they come. The directory must exist.
func Follow(ctx context.Context, dir string, q *Query) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		f := &follower{dir: dir, q: q.clone(), streams: map[string]bool{}, items: make(chan read)}
		var cancel context.CancelFunc
		f.ctx, cancel = context.WithCancel(ctx)
		defer f.readers.Wait()
		defer cancel()
		f.run(func(it *Item, err error) bool { return f.ctx.Err() == nil && yield(it, err) })
	}
}

// A follower owns one goroutine for each suffix, which reads its segments one after
// the other.
type follower struct {
	ctx     context.Context
	dir     string
	q       *Query          // a copy: whoever iterates may advance the cursor that he gave
	streams map[string]bool // suffixes that are followed
	items   chan read
	readers sync.WaitGroup
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
			if !yield(r.item, r.err) || r.err != nil && !isDamage(r.err) {
				return
			}
		case <-poll.C:
			if err := f.look(); err != nil {
				yield(nil, err)
				return
			}
			poll.Reset(pollInterval)
		case <-f.ctx.Done():
			return
		}
	}
}

func isDamage(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

// look begins to follow suffixes that are new.
func (f *follower) look() error {
	names, err := segments(f.dir)
	if err != nil {
		return fmt.Errorf("recordlog: %w", err)
	}
	for _, name := range names {
		if _, suffix, _ := parseName(name); !f.streams[suffix] {
			f.streams[suffix] = true
			f.readers.Go(func() { f.follow(suffix) })
		}
	}
	return nil
}

// follow reads the segments of a suffix, each to its end before the next.
func (f *follower) follow(suffix string) {
	for last := ""; ; {
		names, err := segments(f.dir)
		if err != nil {
			f.send(nil, fmt.Errorf("recordlog: %w", err))
			return
		}
		next := ""
		for _, name := range f.q.matching(names) {
			if _, s, _ := parseName(name); s == suffix && name > last {
				next = name
				break
			}
		}
		switch {
		case next == "":
			if !pause(f.ctx) {
				return
			}
		case !f.read(next):
			return
		default:
			last = next
		}
	}
}

// read yields what one segment has, until nothing is written to it any more, and
// reports whether to go on.
func (f *follower) read(name string) bool {
	file, err := os.Open(filepath.Join(f.dir, name))
	if errors.Is(err, os.ErrNotExist) { // archived meanwhile
		return true
	}
	if err != nil {
		f.send(nil, fmt.Errorf("recordlog: %w", err))
		return false
	}
	defer file.Close()
	return decode(&growing{f: f, file: file, name: name}, name, f.q, f.send)
}

// send hands a record on, and reports whether anybody still wants more.
func (f *follower) send(item *Item, err error) bool {
	select {
	case f.items <- read{item, err}:
		return true
	case <-f.ctx.Done():
		return false
	}
}

// pause waits for pollInterval; false means that ctx ended first.
func pause(ctx context.Context) bool {
	t := time.NewTimer(pollInterval)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// growing reads a segment whose end is the end only when nothing is written to it any
// more: it is finished, or there is a later one.
type growing struct {
	f    *follower
	file *os.File
	name string
	over bool // nothing is written to it
}

func (g *growing) Read(p []byte) (int, error) {
	for {
		n, err := g.file.Read(p)
		if n > 0 || err != io.EOF || g.over {
			return n, err
		}
		if g.over, err = g.ended(); err != nil {
			return 0, err
		}
		if !g.over && !pause(g.f.ctx) { // else what was written until then is read
			return 0, errStopped
		}
	}
}

func (g *growing) ended() (bool, error) {
	info, err := g.file.Stat()
	if err != nil || isFinished(info) {
		return true, err
	}
	names, err := segments(g.f.dir)
	_, suffix, _ := parseName(g.name)
	return slices.ContainsFunc(names, func(name string) bool {
		_, s, _ := parseName(name)
		return s == suffix && name > g.name
	}), err
}
