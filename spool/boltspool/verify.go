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
	// log that cannot, for which ID is zero.
	Damaged []*spool.CorruptError
}

// Verify reads everything in a spool that nobody has open, or in a backup: the
// index, the log, every entry, every body. It changes nothing, and needs no right
// to. An error says why the spool could not be verified, for example that it is in
// use, or that its index is so damaged that Rebuild must make it anew; damage to
// single parts is in the result. A body is read in pieces of 64 KiB, or up to 1
// MiB; memory grows with the number of entries by about 100 bytes each.
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
	return result, v.run(ctx)
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
	return nil
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
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{b}, v.buf)
	if err == nil {
		v.result.Bodies++
		v.result.Bytes += n
	}
	return err
}

// String says in a line what was found.
func (r VerifyResult) String() string {
	return fmt.Sprintf("%d entries, %d bodies of %d bytes, %d damaged", r.Entries, r.Bodies, r.Bytes, len(r.Damaged))
}
