package boltspool

import (
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool"
)

// fillPercent is how full a page of the index gets before it is split: IDs
// grow, so that pages fill from the left and are seldom touched again.
const fillPercent = 0.9

// A txn is the transaction of one group of requests. Each unit is judged
// against the state that the units before it leave, and takes effect as a whole
// or not at all. Nothing of it shows before the commit.
type txn struct {
	s               *Spool
	tx              *bbolt.Tx
	entries, bodies *bbolt.Bucket
	seen            map[spool.ID]shadow // entries that this group has changed
	effects         []effect
	added, removed  []bodyChange
	keys            int // that were changed
	bytes           int64
	used            int64 // what is stored grows by that many bytes
	grows           bool  // new messages are among them
}

// A shadow is an entry as the group leaves it.
type shadow struct {
	stored, owned bool
	rev           uint64
}

// An effect is what a change does to the index in memory, after the commit.
type effect struct {
	c   *change
	rev uint64 // 0: removed, or released
}

type bodyChange struct {
	id  spool.ID
	rec bodyRecord
}

// A bodyRef counts what a unit does to one body.
type bodyRef struct {
	id      spool.ID
	rec     bodyRecord
	found   bool
	damaged error
	stage   *writer // brings it, if it is not found
	delta   int
}

// tryGroup commits all units but those that are refused or fail by themselves.
// After an error nothing was committed that is known of.
func (s *Spool) tryGroup(reqs []*request, refuse refusal) (err error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil { // bbolt answers damage so
			rollback(tx)
			err = fmt.Errorf("index.db: %v", p)
		}
	}()
	t := &txn{s: s, tx: tx, entries: tx.Bucket(bucketEntries), bodies: tx.Bucket(bucketBodies), seen: make(map[spool.ID]shadow)}
	t.entries.FillPercent, t.bodies.FillPercent = fillPercent, fillPercent
	num, off := s.segs.mark()
	err = t.run(reqs, refuse)
	if err == nil && t.keys > 0 {
		err = t.commit()
	} else {
		tx.Rollback()
	}
	if err != nil {
		s.segs.rewind(num, off)
		return err
	}
	t.publish()
	settle(reqs)
	return nil
}

// rollback ends a transaction that panicked, as far as that is possible.
func rollback(tx *bbolt.Tx) {
	defer func() { _ = recover() }()
	_ = tx.Rollback()
}

func (t *txn) run(reqs []*request, refuse refusal) error {
	for _, r := range reqs {
		for i := range r.units {
			u := &r.units[i]
			if u.err = u.invalid; u.err != nil {
				continue
			}
			if u.err = refuse.of(u); u.err != nil {
				continue
			}
			var refs refs
			if u.err = t.judge(u, &refs); u.err != nil {
				continue
			}
			if u.err = t.s.admit(u, t.s.used+t.used); u.err != nil {
				continue
			}
			t.grows = t.grows || u.grows
			if err := t.execute(u, refs); err != nil {
				return err
			}
		}
	}
	return nil
}

// commit makes everything durable, bodies first.
func (t *txn) commit() error {
	used := t.tx.Size()
	need := indexNeed(used, t.keys, t.bytes)
	if t.grows {
		need += indexKeep(used)
	}
	err := t.s.indexFile.reserve(used, need)
	if err == nil {
		err = t.s.segs.sync()
	}
	if err != nil {
		t.tx.Rollback()
		return err
	}
	if err := t.s.fs.CommitIndex(t.tx); err != nil {
		return fmt.Errorf("commit of the index: %w", err) // ENOSPC too is final: bbolt may have written
	}
	return nil
}

// lookup returns an entry as the units before left it.
func (t *txn) lookup(id spool.ID) shadow {
	if sh, ok := t.seen[id]; ok {
		return sh
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if _, ok := t.s.mu.damaged[id]; ok {
		return shadow{stored: true}
	}
	if n := t.s.mu.index.find(id); n != nil {
		return shadow{true, n.owned, n.rev}
	}
	return shadow{}
}

type refs []bodyRef

// body returns the reference to a body, as the units before left it.
func (t *txn) body(rs *refs, id spool.ID) *bodyRef {
	for i := range *rs {
		if (*rs)[i].id == id {
			return &(*rs)[i]
		}
	}
	r := bodyRef{id: id}
	if v := t.bodies.Get(id[:]); v != nil {
		r.found = true
		r.rec, r.damaged = parseBodyRecord(v, id[:])
	}
	*rs = append(*rs, r)
	return &(*rs)[len(*rs)-1]
}

// judge finds out whether a unit can be applied, and changes nothing.
func (t *txn) judge(u *unit, rs *refs) error {
	for i := range u.changes {
		c := &u.changes[i]
		sh := t.lookup(c.entry.ID)
		c.gone = false
		switch {
		case c.op == spool.Insert && sh.stored:
			return fmt.Errorf("boltspool: entry %s: %w", c.entry.ID, spool.ErrExists)
		case c.op == spool.Remove && !sh.stored:
			c.gone = true
			continue
		case c.op != spool.Insert && (!sh.owned || sh.rev != c.entry.Rev):
			return fmt.Errorf("boltspool: entry %s at revision %d: %w", c.entry.ID, c.entry.Rev, spool.ErrFenced)
		}
		if err := t.judgeChange(c, rs); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) judgeChange(c *change, rs *refs) (err error) {
	e := c.entry
	if c.op == spool.Update || c.op == spool.Remove {
		rec := t.entries.Get(e.ID[:])
		c.was = int64(len(rec))
		if c.old, err = parseBrief(rec, e.ID[:]); err != nil {
			return &spool.CorruptError{ID: e.ID, Part: "entry", Err: err}
		}
		c.old.queue, c.old.class = nil, nil // they point into the page
	}
	if c.op == spool.Remove {
		t.body(rs, c.old.body).delta--
		return nil
	}
	if c.op == spool.Release {
		return nil
	}
	size := c.old.bodySize()
	if c.op == spool.Insert || e.Body != c.old.body {
		if size, err = t.refer(c, rs); err != nil {
			return err
		}
		if c.op == spool.Update {
			t.body(rs, c.old.body).delta--
		}
	}
	if e.Skip > size {
		return fmt.Errorf("boltspool: entry %s skips %d bytes of a body of %d", e.ID, e.Skip, size)
	}
	c.size = int64(len(e.Header)) + size - e.Skip
	return nil
}

// refer counts a new reference to a body and returns the body's size.
func (t *txn) refer(c *change, rs *refs) (int64, error) {
	r := t.body(rs, c.entry.Body)
	r.delta++
	switch {
	case r.damaged != nil:
		return 0, &spool.CorruptError{ID: r.id, Part: "body", Err: r.damaged}
	case r.found:
		return r.rec.size, nil
	case c.stage == nil || c.stage.state != staging:
		return 0, fmt.Errorf("boltspool: body %s of entry %s: %w", r.id, c.entry.ID, spool.ErrNotFound)
	}
	r.stage = c.stage
	return r.stage.size(), nil
}

// execute puts a unit that was judged into the transaction. Its errors are those
// of the whole group.
func (t *txn) execute(u *unit, rs refs) error {
	for i := range rs {
		if err := t.putBody(&rs[i]); err != nil {
			return err
		}
	}
	for i := range u.changes {
		c := &u.changes[i]
		if c.gone {
			continue
		}
		if err := t.putEntry(c); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) putBody(r *bodyRef) (err error) {
	refs := int64(r.rec.refs) + int64(r.delta)
	switch {
	case r.delta == 0:
		return nil
	case r.stage != nil:
		if r.rec, err = t.store(r.stage); err != nil {
			return err
		}
		t.added = append(t.added, bodyChange{r.id, r.rec})
		t.used += r.rec.size
	case !r.found || r.damaged != nil || refs < 0:
		// Only entries that end can come here. What is damaged stays where it is.
		t.s.log.Warn("boltspool: the record of a body is damaged; the body is kept", "body", r.id, "error", r.damaged)
		return nil
	case refs == 0:
		t.removed = append(t.removed, bodyChange{r.id, r.rec})
		t.used -= r.rec.size
		t.count(bodyRecordSize)
		return t.bodies.Delete(r.id[:])
	}
	r.rec.refs = uint32(refs)
	t.count(bodyRecordSize)
	return t.bodies.Put(r.id[:], r.rec.append(nil, r.id))
}

func (t *txn) count(bytes int) {
	t.keys++
	t.bytes += int64(bytes) + int64(len(spool.ID{}))
}

// store writes a body that is in memory to the current segment. One in a file is
// durable already.
func (t *txn) store(w *writer) (bodyRecord, error) {
	if w.big != nil {
		table := appendTable(nil, w.big.table(), w.big.size)
		sum := checksum(table[:len(table)-bigTrailer])
		return bodyRecord{kind: inFile, size: w.big.size, sum: sum}, nil
	}
	var b []byte
	if w.buf != nil {
		b = w.buf.b
	}
	return t.s.segs.append(w.id, b, w.sum)
}

func (t *txn) putEntry(c *change) error {
	id := c.entry.ID
	switch c.op {
	case spool.Release:
		t.seen[id] = shadow{stored: true}
		t.effects = append(t.effects, effect{c: c})
		return nil
	case spool.Remove:
		t.seen[id] = shadow{}
		t.effects = append(t.effects, effect{c: c})
		t.used -= c.was
		t.count(0)
		return t.entries.Delete(id[:])
	}
	t.s.rev++
	rev := t.s.rev
	sealRecord(c.rec, id, rev, c.size)
	t.seen[id] = shadow{true, c.keep, rev}
	t.effects = append(t.effects, effect{c, rev})
	t.used += int64(len(c.rec)) - c.was
	t.count(len(c.rec))
	return t.entries.Put(id[:], c.rec)
}
