package boltspool

import "github.com/deferredqueue/deferredqueue/spool"

// release applies the first n units, those that do nothing but release an entry.
// They need no committer, because who owns an entry is not in the log. One whose
// entry is in the group that is being committed is left for the next group.
func (s *Spool) release(units []spool.Unit) (n int, errs []error) {
	for n < len(units) {
		part := units[n:min(n+publishPart, len(units))]
		done := s.releasePart(part, func(i int, err error) {
			if errs == nil {
				errs = make([]error, len(units))
			}
			errs[n+i] = err
		})
		if n += done; done < len(part) {
			break
		}
	}
	return n, errs
}

// releasePart is release of few units, while others wait.
func (s *Spool) releasePart(units []spool.Unit, failed func(i int, err error)) (n int) {
	if len(units[0]) != 1 || units[0][0].Op != spool.Release {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	freed := false
	for ; n < len(units) && s.releasable(units[n]); n++ {
		e := units[n][0].Entry
		if old := s.lookup(e.ID); !old.ownedAt(e.Rev) {
			failed(n, fenced(e))
			continue
		}
		s.mu.index.Release(e.ID)
		freed = true
	}
	if freed {
		s.notify()
	}
	return n
}

// releasable reports whether a unit does nothing but release an entry, with which
// the committer has nothing to do. The caller holds mu.
func (s *Spool) releasable(u spool.Unit) bool {
	if len(u) != 1 || u[0].Op != spool.Release || u[0].Entry == nil {
		return false
	}
	if s.mu.judged == nil {
		return true
	}
	_, changing := s.mu.judged.entries[u[0].Entry.ID]
	return !changing
}
