package boltspool

import "sync/atomic"

// Stats say what a Spool holds and has done since it was opened. It marshals as
// JSON, for expvar for example.
type Stats struct {
	Entries int   // that are stored, those set aside because of damage included
	Bytes   int64 // of bodies, each once, and of records: what Options.Quota is about

	Groups  int64 // that were made durable together, by one sync each
	Changes int64 // in them
	Written int64 // bytes of these groups in the log

	Segments     int   // files of the log
	SegmentBytes int64 // that groups take in them
	LiveBytes    int64 // of that, what is needed
	SpareBytes   int64 // allocated ahead, in further files

	Checkpoints int64 // of the index
	Moved       int64 // bytes that were moved out of segments of which hardly anything is needed
	SetAside    int   // entries, parts of the log and segments that are damaged
}

// counters are what Stats says of the past.
type counters struct{ groups, changes, written atomic.Int64 }

// Stats returns the figures of this moment. It is cheap, and does not wait for the
// disk.
func (s *Spool) Stats() Stats {
	st := Stats{
		Groups: s.counted.groups.Load(), Changes: s.counted.changes.Load(), Written: s.counted.written.Load(),
		Checkpoints: s.keeper.writes.Load(), Moved: s.keeper.moved.Load(), SpareBytes: s.log.Spares(),
	}
	for _, u := range s.log.Usage() {
		st.Segments++
		st.SegmentBytes += u.End
		st.LiveBytes += u.Live
		if u.Set {
			st.SetAside++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Entries, st.Bytes = s.mu.index.Len(), s.mu.index.Bytes()
	for id := range s.mu.damaged {
		if _, ok := s.mu.index.Find(id); !ok {
			st.Entries++
		}
	}
	st.SetAside += len(s.mu.damaged) + len(s.mu.regions)
	return st
}
