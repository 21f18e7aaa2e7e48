package boltspool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

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
	close(s.keeper.stop)
	<-s.keeper.done
	s.closeFiles()
}

// frameHeader is what stands in front of a body in a segment.
const frameHeader = 48

func segmentFile(dir string, n uint32) string {
	return filepath.Join(dir, "seg", fmt.Sprintf("%016x.seg", n))
}

// bodyFile returns the file in which a body lies, and where in it.
func bodyFile(s *Spool, id spool.ID) (name string, off, size int64, err error) {
	b, err := s.findBody(id)
	if err != nil {
		return "", 0, 0, err
	}
	if b.File {
		name, _ = bigPath(s.bigDir, id)
		return name, 0, b.Size, nil
	}
	return segmentFile(s.dir, b.Place.Segment()), b.Place.Offset() + frameHeader, b.Size, nil
}

// entryFile returns the file in which the record of an entry lies, and where.
func entryFile(s *Spool, id spool.ID) (name string, off int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.mu.index.Find(id)
	if !ok {
		return "", 0, fmt.Errorf("no entry %s", id)
	}
	return segmentFile(s.dir, e.Place.Segment()), e.Place.Offset(), nil
}

// checkIndex compares what a spool has counted with what is there, and reads
// every entry.
func checkIndex(s *Spool) error {
	err := checkMemory(s)
	for _, scanErr := range s.Scan(context.Background(), spool.Query{}) {
		err = errors.Join(err, scanErr)
	}
	return err
}

// checkMemory checks the index in memory against itself, and against what the log
// counts.
func checkMemory(s *Spool) error {
	live := map[uint32]int64{}
	for _, u := range s.log.Usage() {
		if u.Live != 0 {
			live[u.Segment] = u.Live
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.index.Check(live)
}

func flip(t *testing.T, name string, off int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func readBody(t *testing.T, s *Spool, id spool.ID) ([]byte, error) {
	t.Helper()
	b, err := s.Open(t.Context(), id)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}
