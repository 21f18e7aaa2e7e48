package boltspool

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
)

// A VerifyResult says what Verify found.
type VerifyResult struct {
	Entries int   // that could be read
	Bodies  int   // that could be read, each once however many entries share it
	Bytes   int64 // of these bodies

	// Damaged are the entries and bodies that cannot be read, and the parts of the
	// log that cannot, for which ID is zero. Nothing may need these parts any more.
	Damaged []*spool.CorruptError

	// Healed are the records of the index that are damaged while the log has what
	// they said: Open finds that there, and repairs the index.
	Healed int
}

// Verify reads everything in a spool that nobody has open, or in a backup: the
// index, the log, of which Rebuild would make another, every entry, every body. It
// changes nothing, and needs no right to. An error says why the spool could not be
// verified, for example that it is in use, or that its index is so damaged that
// Rebuild must make it anew; damage to single parts is in the result. A body is
// read in pieces of 64 KiB, or up to 1 MiB at once; memory grows with the number of
// entries and bodies. ctx ends it early.
func Verify(ctx context.Context, dir string, opts *Options) (result VerifyResult, err error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.ReadOnly = true
	s, err := Open(dir, &o)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	v := verification{s: s, result: &result, seen: make(map[index.BodyRef]bool), buf: make([]byte, blockSize)}
	result.Healed = s.healed
	err = v.run(ctx)
	return result, err
}

type verification struct {
	s      *Spool
	result *VerifyResult
	seen   map[index.BodyRef]bool
	buf    []byte
}

func (v *verification) run(ctx context.Context) error {
	for e, err := range v.s.Scan(ctx, spool.Query{}) {
		if err == nil {
			v.result.Entries++
			err = v.body(ctx, e.Body)
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	if err := v.log(ctx); err != nil {
		return err
	}
	return v.segments()
}

// log reads what no entry shows: the groups in which they stand.
func (v *verification) log(ctx context.Context) error {
	known := make(map[spool.ID]bool)
	for _, corrupt := range v.result.Damaged {
		known[corrupt.ID] = true
	}
	r, err := v.s.replayAll(ctx)
	if err != nil {
		return err
	}
	for _, d := range r.regions {
		if (d.id.IsZero() || !known[d.id]) && !v.s.knowsDamage(d) {
			v.add(spool.ID{}, d.err)
		}
	}
	for id, d := range r.lost {
		if !known[id] { // it has ended
			v.add(spool.ID{}, d.err)
		}
	}
	return nil
}

// segments looks at the first bytes of each segment in which anything is needed. Others
// may be such as were being begun when the power was cut.
func (v *verification) segments() error {
	for _, u := range v.s.log.Usage() {
		if u.Live == 0 {
			continue
		}
		switch err := v.s.log.CheckSegment(u.Segment); {
		case isMissing(err): // entries tell, if something in it is needed
		case v.s.readPassing(err) != nil:
			return v.s.readPassing(err)
		case err != nil:
			v.add(spool.ID{}, err)
		}
	}
	return nil
}

func (v *verification) add(id spool.ID, err error) {
	v.result.Damaged = append(v.result.Damaged, &spool.CorruptError{ID: id, Part: "entry", Err: err})
}

// note adds damage to the result, and returns any other error.
func (v *verification) note(err error) error {
	var corrupt *spool.CorruptError
	if errors.As(err, &corrupt) {
		v.result.Damaged = append(v.result.Damaged, corrupt)
		return nil
	}
	return err
}

// body reads a body, unless another entry has shown it.
func (v *verification) body(ctx context.Context, id spool.ID) error {
	v.s.mu.Lock()
	ref, ok := v.s.mu.index.FindBody(id)
	v.s.mu.Unlock()
	if !ok || v.seen[ref] {
		return nil
	}
	v.seen[ref] = true
	b, err := v.s.Open(ctx, id)
	if err != nil {
		return err
	}
	defer b.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, contextReader{ctx, b}, v.buf)
	if err == nil {
		v.result.Bodies++
		v.result.Bytes += n
	}
	return err
}

// A contextReader reads until ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// String says in a line what was found.
func (r VerifyResult) String() string {
	text := fmt.Sprintf("%d entries, %d bodies of %d bytes, %d damaged", r.Entries, r.Bodies, r.Bytes, len(r.Damaged))
	if r.Healed > 0 {
		text += fmt.Sprintf("; %d records of the index are damaged, and the log has them", r.Healed)
	}
	return text
}
