package boltspool

import (
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool"
)

// abandon ends s as the death of its process would: marks and ownership stay as
// they are, and nothing is written any more.
func abandon(s *Spool) {
	if s.closed.Swap(true) {
		return
	}
	s.inbox.close()
	<-s.committerDone
	s.closeFiles()
}

// bodyFile returns the file in which a body lies, and where in it.
func bodyFile(s *Spool, id spool.ID) (name string, off, size int64, err error) {
	r, err := s.bodyRecord(id)
	if err != nil {
		return "", 0, 0, err
	}
	if r.kind == inFile {
		name, _ = bigPath(s.bigDir, id)
		return name, 0, r.size, nil
	}
	return s.segs.path(r.segment), r.off + frameHeaderSize, r.size, nil
}

// checkIndex runs the consistency check of bbolt, compares the reference counts
// of bodies with the entries that refer to them, and what is stored with what
// the spool has counted.
func checkIndex(s *Spool) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		refs, used := map[spool.ID]uint32{}, int64(0)
		err := tx.Bucket(bucketEntries).ForEach(func(k, v []byte) error {
			b, err := parseBrief(v, k)
			refs[b.body]++
			used += int64(len(v))
			return err
		})
		if err != nil {
			return err
		}
		err = tx.Bucket(bucketBodies).ForEach(func(k, v []byte) error {
			r, err := parseBodyRecord(v, k)
			used += r.size
			if err == nil && r.refs != refs[spool.ID(k)] {
				err = fmt.Errorf("body %x has %d references and %d entries", k, r.refs, refs[spool.ID(k)])
			}
			return err
		})
		if err == nil && used != s.used {
			err = fmt.Errorf("%d bytes are stored, and %d were counted", used, s.used)
		}
		return err
	})
}
