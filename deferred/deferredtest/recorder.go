package deferredtest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A Recorder keeps the records that a Scheduler writes, for tests that run one
// without a [Server]. Its zero value is ready to use; Record is the value of
// queue.Options.Record.
// Its methods are safe for concurrent use. It must not be copied.
type Recorder struct {
	mu struct {
		sync.Mutex
		records []queue.Record
	}
}

// Record keeps a copy of r. It never fails.
func (rec *Recorder) Record(_ context.Context, r queue.Record) error {
	r.Recipients = slices.Clone(r.Recipients)
	r.TLSPeerSubjectName = slices.Clone(r.TLSPeerSubjectName)
	r.Meta = maps.Clone(r.Meta)
	r.Headers = maps.Clone(r.Headers)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.mu.records = append(rec.mu.records, r)
	return nil
}

// Records returns the records of these types so far, all if none is given, in
// the order in which they were written. That is the order of events for each
// message; records of different messages may stand in any order. The slice is
// the caller's, the maps and slices in its records must not be changed.
func (rec *Recorder) Records(types ...queue.RecordType) []queue.Record {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(types) == 0 {
		return slices.Clone(rec.mu.records)
	}
	var found []queue.Record
	for _, r := range rec.mu.records {
		if slices.Contains(types, r.Type) {
			found = append(found, r)
		}
	}
	return found
}
