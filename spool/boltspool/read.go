package boltspool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// readBatch is how many entries are read while segments are kept in place.
const readBatch = 64

// Claim makes this Spool the owner of entries; see spool.Spool. Its cost grows
// with what it returns and hardly with what is stored. Ownership is kept in
// memory: what the claimed entries were is on disk, and claimable again when the
// spool is opened after a crash.
func (s *Spool) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	if err := s.writable(); err != nil {
		return nil, time.Time{}, err
	}
	c := claim{s: s, reader: s.newReader(), req: req}
	err := c.run()
	if err != nil {
		s.giveBack(&c)
		return nil, time.Time{}, err
	}
	return c.entries, c.next, errors.Join(c.damage...)
}

// A claim is one Claim in progress.
type claim struct {
	s       *Spool
	reader  *entryReader
	req     spool.ClaimRequest
	taken   []spool.ID
	entries []*spool.Entry
	next    time.Time
	damage  []error
}

// run claims some entries at a time, so that others get to the index in between.
func (c *claim) run() error {
	limit := c.req.Limit
	if c.req.IDs != nil {
		limit = len(c.req.IDs)
	} else {
		c.reported()
	}
	c.entries = make([]*spool.Entry, 0, min(max(limit, 0), maxGroupChanges))
	for done := false; !done; {
		some := c.req
		if c.req.IDs != nil {
			some.IDs = c.req.IDs[:min(len(c.req.IDs), readBatch)]
			c.req.IDs = c.req.IDs[len(some.IDs):]
			done = len(c.req.IDs) == 0
		} else {
			some.Limit = min(max(limit-len(c.taken), 0), readBatch)
		}
		n, err := c.some(&some)
		if err != nil {
			return err
		}
		if c.req.IDs == nil {
			done = n < readBatch || len(c.taken) >= limit
		}
	}
	return nil
}

// reported takes the damage that no claim has reported yet.
func (c *claim) reported() {
	if c.req.Limit <= 0 {
		return
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.damage, c.s.mu.unsaid = c.s.mu.unsaid, nil
}

// some claims and reads up to readBatch entries, and returns how many it claimed.
func (c *claim) some(req *spool.ClaimRequest) (int, error) {
	defer c.reader.reading()()
	taken := c.take(req)
	for _, at := range taken {
		c.taken = append(c.taken, at.ID)
	}
	for _, at := range taken {
		e, err := c.s.readEntry(c.reader, at)
		if err == nil {
			c.entries = append(c.entries, e)
		} else if corrupt := (*spool.CorruptError)(nil); errors.As(err, &corrupt) {
			c.damage = append(c.damage, c.s.setAside(at.ID, err))
		} else {
			return 0, err
		}
	}
	return len(taken), nil
}

// take makes entries owned.
func (c *claim) take(req *spool.ClaimRequest) (taken []index.Entry) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if req.IDs == nil {
		taken, c.next = c.s.mu.index.Claim(req)
		return taken
	}
	for _, id := range req.IDs {
		if err := c.s.mu.damaged[id]; err != nil {
			c.damage = append(c.damage, err)
		}
	}
	return c.s.mu.index.ClaimIDs(req.IDs)
}

// giveBack undoes a claim, whose damage the next one reports.
func (s *Spool) giveBack(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.req.IDs == nil {
		s.mu.unsaid = append(c.damage, s.mu.unsaid...)
	}
	for _, id := range c.taken {
		if s.mu.damaged[id] == nil {
			s.mu.index.Release(id)
		}
	}
}

// setAside keeps a damaged entry from every claim and change until the spool is
// opened again. Its place in the log stays as it is.
func (s *Spool) setAside(id spool.ID, err error) error {
	corrupt := corruptEntry(id, err)
	s.logger.Error("boltspool: an entry is damaged and set aside", "dir", s.dir, "error", corrupt)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.index.Own(id)
	s.mu.damaged[id] = corrupt
	return corrupt
}

// readEntry reads an entry. A *spool.CorruptError says that it is damaged, any
// other error nothing about it. The caller is Reading.
func (s *Spool) readEntry(r *entryReader, at index.Entry) (*spool.Entry, error) {
	e, err := r.entry(at)
	if err == nil {
		return e, nil
	}
	if s.closed.Load() {
		return nil, spool.ErrClosed
	}
	if passing := s.readPassing(err); passing != nil {
		return nil, passing
	}
	return nil, corruptEntry(at.ID, err)
}

// readEntries reads some entries, and hands out each, or a *spool.CorruptError.
// What is not stored any more is left out. An error says nothing about them.
func (s *Spool) readEntries(r *entryReader, ids []spool.ID, each func(*spool.Entry, error)) error {
	defer r.reading()()
	for _, at := range s.lookUp(ids) {
		e, err := (*spool.Entry)(nil), at.damage
		if err == nil {
			e, err = s.readEntry(r, at.Entry)
		}
		if corrupt := (*spool.CorruptError)(nil); err != nil && !errors.As(err, &corrupt) {
			return err
		}
		each(e, err)
	}
	return nil
}

// A whereabout is where an entry is, or why that is not known.
type whereabout struct {
	index.Entry
	damage error
}

func (s *Spool) lookUp(ids []spool.ID) []whereabout {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]whereabout, 0, len(ids))
	for _, id := range ids {
		if e, ok := s.mu.index.Find(id); ok {
			found = append(found, whereabout{Entry: e})
		} else if err := s.mu.damaged[id]; err != nil {
			found = append(found, whereabout{index.Entry{ID: id}, err})
		}
	}
	return found
}

// Open reads a stored body. One from a segment, up to about 1 MiB, is read into
// memory and verified at once; one from a file of its own block by block, before
// any byte of the block is returned.
func (s *Spool) Open(ctx context.Context, id spool.ID) (spool.Body, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.usable(); err != nil {
		return nil, err
	}
	src, err := s.openBody(id)
	if isMissing(err) {
		// A file that was removed between the look at the index and its opening?
		if _, err := s.findBody(id); err != nil {
			return nil, err
		}
	}
	switch {
	case err == nil:
		return &body{src: src}, nil
	case errors.Is(err, spool.ErrNotFound):
		return nil, err
	case s.closed.Load():
		return nil, spool.ErrClosed
	}
	return nil, s.readError(id, err)
}

func (s *Spool) openBody(id spool.ID) (source, error) {
	done := s.log.Reading()
	defer done()
	b, err := s.findBody(id)
	switch {
	case err != nil:
		return nil, err
	case b.Lost():
		return nil, errors.New("it is not known where it is, because the log is damaged")
	case b.File:
		return openBig(s.fs, s.bigDir, id, b, s.corruptBody(id))
	}
	data, err := s.log.Body(b.Place, id, b.Size)
	return memoryBody(data), err
}

func (s *Spool) findBody(id spool.ID) (index.Body, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref, ok := s.mu.index.FindBody(id)
	if !ok {
		return index.Body{}, fmt.Errorf("boltspool: body %s: %w", id, spool.ErrNotFound)
	}
	return s.mu.index.Body(ref), nil
}

// readPassing returns what the caller is told if an error of reading will pass
// by itself, or concerns who may read; nil if it says that something is damaged.
func (s *Spool) readPassing(err error) error {
	switch {
	case errors.Is(err, vfs.ErrTooMany):
		return fmt.Errorf("boltspool: %s: %w: %w", s.dir, spool.ErrBusy, err)
	case isPermission(err):
		return fmt.Errorf("boltspool: %w", err)
	}
	return nil
}

// readError turns the error of reading a body into one of package spool.
func (s *Spool) readError(id spool.ID, err error) error {
	if passing := s.readPassing(err); passing != nil {
		return passing
	}
	return &spool.CorruptError{ID: id, Part: "body", Err: err}
}

func (s *Spool) corruptBody(id spool.ID) func(error) error {
	return func(err error) error { return s.readError(id, err) }
}

// Queues yields what is counted in memory, for each queue, class and state.
// Entries that are set aside because of damage are among them.
func (s *Spool) Queues(ctx context.Context) iter.Seq2[spool.QueueInfo, error] {
	return func(yield func(spool.QueueInfo, error) bool) {
		for from := uint32(0); ; {
			infos, next, err := s.infos(ctx, from)
			if err != nil {
				yield(spool.QueueInfo{}, err)
				return
			}
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
			if from = next; from == 0 {
				return
			}
			runtime.Gosched() // or the mutex would be ours again before anybody else is awake
		}
	}
}

func (s *Spool) infos(ctx context.Context, from uint32) (infos []spool.QueueInfo, next uint32, err error) {
	if err = ctx.Err(); err == nil {
		err = s.usable()
	}
	if err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	infos, next = s.mu.index.Infos(from)
	return infos, next, nil
}
