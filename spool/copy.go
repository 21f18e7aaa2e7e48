package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// CopyOptions says what [Copy] does beside copying. The zero value, like a nil
// *CopyOptions, leaves src as it is.
type CopyOptions struct {
	// Remove moves instead of copying: each entry is claimed in src, and removed
	// there once it is durable in dst. What cannot be claimed, because somebody
	// owns it, this Spool value included, stays in src and does not come to dst,
	// so that nothing is taken from under a scheduler that runs on src; another
	// Copy finds it when it is free. What was claimed and not moved is released.
	// Defaults to false: src is only read, by Scan and Open.
	Remove bool

	// Progress, if not nil, is called by Copy after every few entries with what
	// was done so far. It must not change what the lists in it hold. Defaults to
	// nil.
	Progress func(CopyResult)
}

// A CopyResult says what a [Copy] did.
type CopyResult struct {
	Entries int64 // that are new in dst
	Bodies  int64 // that are new in dst
	Bytes   int64 // of these bodies
	Skipped int64 // entries that dst had already
	Removed int64 // with Remove: entries that were removed from src
	Owned   int64 // with Remove: entries that could not be claimed, and so were left

	// Damaged are the entries and bodies of src that are damaged, each once, and
	// those entries of dst that are damaged and also in src; with Remove, their bodies
	// too.
	Damaged []*CorruptError
	// Left are the entries that could be read and are not in dst: their body is
	// damaged, dst refuses them by ErrTooLarge, or has them and they are damaged
	// there; with Remove, or their bodies are. They are still in src.
	Left []ID
}

// Copy brings every entry of src to dst, with its body: from the embedded spool
// to a database, for instance, or to one that is opened with other options. The
// error is nil only if dst now holds all that src does, but for what Remove
// leaves to its owners; after an error the result says what was done.
//
// An entry keeps its ID and all else but Rev, and Body: bodies get new IDs.
// Entries that share a body in src share one in dst. Nobody owns what is new in
// dst: it can be claimed at once. So without Remove schedulers that run on both
// deliver a message twice, and even with Remove a message may be, as after any
// crash: if Copy is interrupted between dst and src, and dst has delivered it
// before the next Copy.
//
// Copy may be repeated, and should be after an error. What dst has already, by
// its ID, is skipped, and with Remove removed from src, once its body was read
// there; what shares a body with it is put on that body, if its bytes are the
// same. Only with what an earlier
// Copy has removed from src nothing is shared any more. Entries that come to
// src, or change there, while Copy runs may or may not be seen.
//
// Bodies come to dst in one unit with those of their entries that Copy has at
// hand, so that neither a crash of dst nor ErrFull leaves anything half done.
// Damage, and what is too large for dst, is skipped and left in src. It ends
// nothing, but the error of Copy names it in the end; a *CorruptError is found
// in it by errors.As. While a spool answers ErrBusy, Copy tries again until ctx
// is done, after a wait of at most a second; after ErrAmbiguous it looks. Every
// other error ends it: after ErrFull make room and call it again.
//
// Copy blocks until all is done or ctx is. It has a few entries in memory at a
// time and 64 KiB of a body, however long that is, and about 100 bytes for each
// body that it has copied. It starts no goroutine. Both spools may be in use
// meanwhile, but with Remove they must not be one and the same: Copy notices, and
// refuses.
func Copy(ctx context.Context, dst, src Spool, opts *CopyOptions) (CopyResult, error) {
	c := &copier{
		ctx: ctx, dst: dst, src: src,
		bodies: make(map[ID]twin), read: make(map[ID]*CorruptError), damaged: make(map[ID]bool), mine: make(map[ID]*Entry),
	}
	if opts != nil {
		c.CopyOptions = *opts
	}
	err := c.run()
	if err == nil {
		err = c.leftovers()
	}
	return c.res, err
}

const (
	copyEntries = 64       // of src that are at hand at a time
	copyBytes   = 1 << 20  // of these entries, at most, if they are more than one
	copyStaged  = 16 << 20 // bytes of bodies that are staged for one Apply, or a little more
	copyTries   = 5        // to store what seems to be neither in dst nor insertable
	copyReasons = 10       // that are told by the error

	copyMinWait = 5 * time.Millisecond
	copyMaxWait = time.Second
)

// A copier is one Copy.
type copier struct {
	CopyOptions
	ctx       context.Context
	dst, src  Spool
	res       CopyResult
	bodies    map[ID]twin          // by their ID in src: those that dst has
	read      map[ID]*CorruptError // bodies of dst that were read through, nil for those that are whole
	damaged   map[ID]bool          // what is in res.Damaged
	reasons   []error              // why something was left
	mine      map[ID]*Entry        // of those at hand, claimed by this Copy and still in src
	moved     []*Entry             // of those, what is in dst
	buf, buf2 []byte
}

// A twin is the copy of a body.
type twin struct {
	id     ID
	proven bool // by this Copy, which wrote it or compared it
}

func (c *copier) run() error {
	var after ID
	return c.patiently(func() error { return c.scan(&after) })
}

// scan copies what comes after an ID, which it moves on.
func (c *copier) scan(after *ID) error {
	var page []*Entry
	size := 0
	for e, err := range c.src.Scan(c.ctx, Query{After: *after}) {
		if corrupt, ok := errors.AsType[*CorruptError](err); ok {
			c.damage(corrupt)
			continue
		}
		if err != nil {
			return fmt.Errorf("spool: copy: scan of the source: %w", err)
		}
		page = append(page, e)
		if size += weight(e); len(page) < copyEntries && size < copyBytes {
			continue
		}
		if err := c.page(page); err != nil {
			return err
		}
		*after = e.ID
		page, size = nil, 0
	}
	return c.page(page)
}

// patiently does something until the spool is not busy any more.
func (c *copier) patiently(do func() error) error {
	for wait := copyMinWait; ; wait = min(2*wait, copyMaxWait) {
		err := do()
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if !c.rest(wait) {
			return fmt.Errorf("%w: %w", c.ctx.Err(), err)
		}
	}
}

// rest waits before something is tried again. It reports whether there is time
// to do so.
func (c *copier) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
	return c.ctx.Err() == nil
}

// weight is about what an entry takes in memory.
func weight(e *Entry) int {
	n := len(e.Header) + len(e.Outcome) + len(e.LastError) + 64*len(e.Envelope.Recipients)
	for k, v := range e.Meta {
		n += len(k) + len(v)
	}
	return n
}

// page copies some entries.
func (c *copier) page(entries []*Entry) (err error) {
	if len(entries) == 0 {
		return nil
	}
	if c.Remove {
		if entries, err = c.claim(entries); err != nil {
			return err
		}
		defer c.release()
	}
	for try := 1; len(entries) > 0 && err == nil; try++ {
		if entries, err = c.missing(entries); err == nil {
			entries, err = c.store(entries, try)
		}
	}
	// What was stored before an error is in dst, and no longer wanted in src.
	if rerr := c.removeMoved(); err == nil {
		err = rerr
	}
	if c.Progress != nil {
		c.Progress(c.res)
	}
	return err
}

// missing returns those entries that dst does not have, and takes note of the
// others.
func (c *copier) missing(entries []*Entry) (missing []*Entry, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	slices.SortFunc(entries, func(a, b *Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	have, broken, err := c.stored(entries[0].ID, entries[len(entries)-1].ID)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		switch there := have[e.ID]; {
		case broken[e.ID] != nil:
			c.damage(broken[e.ID])
			c.leave(broken[e.ID], e)
		case there == nil:
			missing = append(missing, e)
		case c.Remove && there.Body == e.Body:
			return nil, fmt.Errorf("spool: copy: entry %s has the same body %s in both spools, which are one: nothing can be moved", e.ID, e.Body)
		default:
			if err := c.skip(e, there.Body); err != nil {
				return nil, err
			}
		}
	}
	return missing, nil
}

// skip takes note of an entry that dst has, on a body. Nothing is removed from src
// whose body cannot be read in dst.
func (c *copier) skip(e *Entry, body ID) error {
	if c.Remove {
		broken, err := c.unwhole(body)
		if err != nil {
			return fmt.Errorf("spool: copy: reading body %s of the destination: %w", body, err)
		}
		if broken != nil {
			c.damage(broken)
			c.leave(broken, e)
			return nil
		}
	}
	c.res.Skipped++
	c.moved = append(c.moved, e)
	if _, known := c.bodies[e.Body]; !known {
		c.bodies[e.Body] = twin{id: body}
	}
	return nil
}

// stored returns what dst has between two IDs, both included, and what of that
// is damaged.
func (c *copier) stored(first, last ID) (have map[ID]*Entry, broken map[ID]*CorruptError, err error) {
	have, broken = make(map[ID]*Entry), make(map[ID]*CorruptError)
	err = c.patiently(func() error {
		for e, err := range c.dst.Scan(c.ctx, Query{After: before(first)}) {
			var id ID
			if corrupt, ok := errors.AsType[*CorruptError](err); ok {
				id = corrupt.ID
				broken[id] = corrupt
			} else if err != nil {
				return fmt.Errorf("spool: copy: scan of the destination: %w", err)
			} else {
				id = e.ID
				have[id] = e
			}
			if bytes.Compare(id[:], last[:]) >= 0 {
				break
			}
		}
		return nil
	})
	return have, broken, err
}

// before returns the ID that comes before id.
func before(id ID) ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

// damage takes note of what is damaged.
func (c *copier) damage(corrupt *CorruptError) {
	if c.damaged[corrupt.ID] {
		return
	}
	c.damaged[corrupt.ID] = true
	c.res.Damaged = append(c.res.Damaged, corrupt)
	c.reason(corrupt)
}

// leave takes note of entries that stay where they are.
func (c *copier) leave(why error, entries ...*Entry) {
	for _, e := range entries {
		c.res.Left = append(c.res.Left, e.ID)
	}
	if _, ok := errors.AsType[*CorruptError](why); !ok {
		c.reason(why)
	}
}

func (c *copier) reason(err error) {
	if len(c.reasons) < copyReasons {
		c.reasons = append(c.reasons, err)
	}
}

// leftovers returns the error of a Copy that came to its end.
func (c *copier) leftovers() error {
	if c.reasons == nil {
		return nil
	}
	return fmt.Errorf("spool: copy: %d parts of the source are damaged, %d entries that can be read were left there: %w",
		len(c.res.Damaged), len(c.res.Left), errors.Join(c.reasons...))
}
