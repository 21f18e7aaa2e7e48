package boltspool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool"
)

// readBatch is how many entries one read transaction covers.
const readBatch = 64

// Claim makes this Spool the owner of entries; see spool.Spool. Its cost grows
// with what it returns and hardly with what is stored. Ownership is kept in
// memory: what the claimed entries were is on disk, and claimable again when the
// spool is opened after a crash.
func (s *Spool) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	if err := s.usable(); err != nil {
		return nil, time.Time{}, err
	}
	if req.IDs == nil && req.Limit <= 0 {
		req.Limit = 0
	}
	ids, next, damage := s.take(&req)
	entries := make([]*spool.Entry, 0, len(ids))
	for some := range slices.Chunk(ids, readBatch) {
		err := s.view(func(bucket, _ *bbolt.Bucket) error {
			for _, id := range some {
				e, err := parseStored(bucket, id)
				if err != nil {
					s.mu.Lock()
					damage = append(damage, s.setAside(id, err))
					s.mu.Unlock()
					continue
				}
				entries = append(entries, e)
			}
			return nil
		})
		if err != nil {
			s.giveBack(ids)
			return nil, time.Time{}, err
		}
	}
	return entries, next, errors.Join(damage...)
}

// take makes entries owned, and returns the damage that is to be reported.
func (s *Spool) take(req *spool.ClaimRequest) (ids []spool.ID, next time.Time, damage []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.mu.index
	var taken []slotID
	if req.IDs != nil {
		taken = x.claimIDs(req.IDs)
		for _, id := range req.IDs {
			if err := s.mu.damaged[id]; err != nil {
				damage = append(damage, err)
			}
		}
	} else {
		var due int64
		taken, due = x.claim(req)
		if due != never {
			next = fromInstant(due)
		}
		if req.Limit > 0 {
			damage, s.mu.unsaid = s.mu.unsaid, nil
		}
	}
	ids = make([]spool.ID, len(taken))
	for i, n := range taken {
		ids[i] = x.slot(n).id
	}
	return ids, next, damage
}

func (s *Spool) giveBack(ids []spool.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.mu.index.release(id)
	}
}

func parseStored(bucket *bbolt.Bucket, id spool.ID) (*spool.Entry, error) {
	v := bucket.Get(id[:])
	if v == nil {
		return nil, errors.New("no record in the index")
	}
	return parseRecord(v, id[:])
}

// Open reads a stored body. One from a segment, up to about 1 MiB, is read into
// memory and verified at once; one from a file of its own block by block, before
// any byte of the block is returned.
func (s *Spool) Open(ctx context.Context, id spool.ID) (spool.Body, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := s.openBody(id)
	if errors.Is(err, fs.ErrNotExist) {
		// Removed between the look at the index and the opening of the file?
		if _, err := s.bodyRecord(id); err != nil {
			return nil, err
		}
		return nil, s.readError(id, err)
	}
	return b, err
}

func (s *Spool) openBody(id spool.ID) (spool.Body, error) {
	r, err := s.bodyRecord(id)
	if err != nil {
		return nil, err
	}
	var src source
	if r.kind == inSegment {
		var b []byte
		b, err = readSegment(s.fs, s.segs.dir, id, r)
		src = memoryBody(b)
	} else {
		src, err = openBig(s.fs, s.bigDir, id, r, s.corruptBody(id))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, s.readError(id, err)
	}
	return &body{src: src}, nil
}

func (s *Spool) bodyRecord(id spool.ID) (r bodyRecord, err error) {
	err = s.view(func(_, bodies *bbolt.Bucket) error {
		v := bodies.Get(id[:])
		if v == nil {
			return fmt.Errorf("boltspool: body %s: %w", id, spool.ErrNotFound)
		}
		var err error
		if r, err = parseBodyRecord(v, id[:]); err != nil {
			return &spool.CorruptError{ID: id, Part: "body", Err: err}
		}
		return nil
	})
	return r, err
}

// Scan yields entries in the order of their IDs; see spool.Spool. It reads a few
// at a time and holds neither a lock nor a transaction while it yields.
func (s *Spool) Scan(ctx context.Context, q spool.Query) iter.Seq2[*spool.Entry, error] {
	return func(yield func(*spool.Entry, error) bool) {
		type result struct {
			e   *spool.Entry
			err error
		}
		batch := make([]result, 0, readBatch)
		after, more := q.After[:], true
		for more {
			batch = batch[:0]
			err := ctx.Err()
			if err == nil {
				more, err = s.scanSome(&after, q.Queue, func(e *spool.Entry, err error) {
					batch = append(batch, result{e, err})
				})
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, r := range batch {
				if !yield(r.e, r.err) {
					return
				}
			}
		}
	}
}

// scanSome reads up to readBatch entries behind after, which it moves on.
func (s *Spool) scanSome(after *[]byte, queue string, add func(*spool.Entry, error)) (more bool, err error) {
	err = s.view(func(entries, _ *bbolt.Bucket) error {
		c := entries.Cursor()
		k, v := c.Seek(*after)
		if k != nil && bytes.Equal(k, *after) {
			k, v = c.Next()
		}
		for n := 0; k != nil && n < readBatch; n++ {
			*after = append((*after)[:0:0], k...)
			if b, err := parseBrief(v, k); err != nil || queue == "" || string(b.queue) == queue {
				add(scanOne(k, v))
			}
			k, v = c.Next()
		}
		more = k != nil
		return nil
	})
	return more, err
}

func scanOne(k, v []byte) (*spool.Entry, error) {
	e, err := parseRecord(v, k)
	if err != nil {
		var id spool.ID
		copy(id[:], k)
		return nil, &spool.CorruptError{ID: id, Part: "entry", Err: err}
	}
	return e, nil
}

// Queues yields what is counted in memory, for each queue, class and state.
func (s *Spool) Queues(ctx context.Context) iter.Seq2[spool.QueueInfo, error] {
	return func(yield func(spool.QueueInfo, error) bool) {
		err := ctx.Err()
		if err == nil {
			err = s.usable()
		}
		if err != nil {
			yield(spool.QueueInfo{}, err)
			return
		}
		s.mu.Lock()
		infos := s.mu.index.infos()
		s.mu.Unlock()
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (x *index) infos() (infos []spool.QueueInfo) {
	for _, q := range x.queues {
		for _, g := range q.classes {
			for state := range g.states {
				t := &g.states[state]
				if t.entries == 0 {
					continue
				}
				info := spool.QueueInfo{Queue: q.name, Class: g.class, State: spool.State(state),
					Entries: int64(t.entries), Bytes: t.bytes, Oldest: fromInstant(t.oldest)}
				if info.State == spool.Queued { // both are times before which nothing was received
					info.Oldest = fromInstant(max(t.oldest, q.ages.oldest()))
				}
				if k := t.key(); k != never {
					info.NextDue = fromInstant(k)
				}
				infos = append(infos, info)
			}
		}
	}
	return infos
}
