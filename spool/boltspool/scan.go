package boltspool

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
)

// The IDs of a Scan are picked a part at a time, small at first, for callers that
// soon leave it: each part costs one look at everything in memory.
const (
	firstPart = 256
	maxPart   = 64 << 10
)

// Scan yields entries in the order of their IDs; see spool.Spool. It reads a few
// at a time and holds no lock while it yields. To begin costs a look at what is
// in memory of every entry: some 10 ms for a million.
func (s *Spool) Scan(ctx context.Context, q spool.Query) iter.Seq2[*spool.Entry, error] {
	return func(yield func(*spool.Entry, error) bool) {
		if !s.scanRegions(q, yield) {
			return
		}
		r := s.newReader()
		after := q.After
		for part := firstPart; ; part = min(4*part, maxPart) {
			ids, err := s.idsAfter(ctx, after, q.Queue, part)
			if err != nil {
				yield(nil, err)
				return
			}
			if !s.scanPart(ctx, r, ids, yield) || len(ids) < part {
				return
			}
			after = ids[len(ids)-1]
		}
	}
}

// scanRegions yields damage to the log of which no entry is known.
func (s *Spool) scanRegions(q spool.Query, yield func(*spool.Entry, error) bool) bool {
	if !q.After.IsZero() {
		return true // a page other than the first
	}
	s.mu.Lock()
	regions := slices.Clone(s.mu.regions)
	s.mu.Unlock()
	for _, err := range regions {
		if !yield(nil, err) {
			return false
		}
	}
	return true
}

// scanPart yields the entries with these IDs. It reports whether to go on.
func (s *Spool) scanPart(ctx context.Context, r *entryReader, ids []spool.ID, yield func(*spool.Entry, error) bool) bool {
	type result struct {
		e   *spool.Entry
		err error
	}
	results := make([]result, 0, readBatch)
	for some := range slices.Chunk(ids, readBatch) {
		results = results[:0]
		err := ctx.Err()
		if err == nil {
			err = s.usable()
		}
		if err == nil {
			err = s.readEntries(r, some, func(e *spool.Entry, err error) {
				results = append(results, result{e, err})
			})
		}
		if err != nil {
			yield(nil, err)
			return false
		}
		for _, res := range results {
			if !yield(res.e, res.err) {
				return false
			}
		}
	}
	return true
}

func corruptEntry(id spool.ID, err error) error {
	var corrupt *spool.CorruptError
	if errors.As(err, &corrupt) {
		return corrupt
	}
	return &spool.CorruptError{ID: id, Part: "entry", Err: err}
}

// idsAfter returns the first n IDs of entries behind one, in their order.
func (s *Spool) idsAfter(ctx context.Context, after spool.ID, queue string, n int) ([]spool.ID, error) {
	p := picker{n: n, after: after}
	for from := uint32(0); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.usable(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if from == 0 {
			for id := range s.mu.damaged {
				if _, ok := s.mu.index.Find(id); !ok {
					p.add(id)
				}
			}
		}
		from = s.mu.index.Each(from, func(v *index.Visit) {
			if queue == "" || v.Queue == queue {
				p.add(v.ID)
			}
		})
		s.mu.Unlock()
		if from == 0 {
			return p.pick(), nil
		}
	}
}

// A picker finds the n smallest IDs that are greater than one.
type picker struct {
	n          int
	after, top spool.ID // top, if not zero: at least n are not greater
	ids        []spool.ID
}

func compareIDs(a, b spool.ID) int { return bytes.Compare(a[:], b[:]) }

func (p *picker) add(id spool.ID) {
	if compareIDs(id, p.after) <= 0 || !p.top.IsZero() && compareIDs(id, p.top) >= 0 {
		return
	}
	if p.ids = append(p.ids, id); len(p.ids) >= 2*p.n {
		p.pick()
		p.top = p.ids[len(p.ids)-1]
	}
}

func (p *picker) pick() []spool.ID {
	slices.SortFunc(p.ids, compareIDs)
	p.ids = p.ids[:min(len(p.ids), p.n)]
	return p.ids
}
