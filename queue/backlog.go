package queue

// maxBacklog is of how many classes of a queue it is known one by one that they
// have a backlog.
const maxBacklog = 1024

// A backlog is of which classes of a queue something due waits in the spool, as
// far as is known here. A message of such a class must not get ahead of that; one
// of another class may. It is a hint: what others do to a shared spool it learns
// from the next claim.
//
// Each note has the tick at which it was made. A claim or a plan that finds
// nothing makes void what was noted before it began.
type backlog struct {
	classes map[string]uint64
	all     uint64 // of every class; zero: not so
}

func (b *backlog) any() bool { return b.all != 0 || len(b.classes) > 0 }

func (b *backlog) has(class string) bool {
	if b.all != 0 {
		return true
	}
	_, ok := b.classes[class]
	return ok
}

func (b *backlog) note(class string, tick uint64) {
	if b.classes == nil {
		b.classes = map[string]uint64{}
	}
	b.classes[class] = tick
	if len(b.classes) > maxBacklog {
		b.noteAll(tick)
	}
}

func (b *backlog) noteAll(tick uint64) { b.all, b.classes = tick, nil }

// settle makes void what was noted before a tick.
func (b *backlog) settle(tick uint64) {
	if b.all < tick {
		b.all = 0
	}
	for class, noted := range b.classes {
		if noted < tick {
			delete(b.classes, class)
		}
	}
}

// settleClass makes void what was noted of one class before a tick.
func (b *backlog) settleClass(class string, tick uint64) {
	if noted, ok := b.classes[class]; ok && noted < tick {
		delete(b.classes, class)
	}
}

// noteBacklog notes that something due of a class waits in the spool. mu is held.
func (s *Scheduler) noteBacklog(q *queueState, class string) {
	q.backlog.note(class, s.mu.tick)
	s.mu.backlogged[q] = struct{}{}
}

// settleBacklogs makes void what was noted before a tick of the queues that a
// claim of that tick did not leave out. mu is held.
func (s *Scheduler) settleBacklogs(tick uint64, all bool) {
	for q := range s.mu.backlogged {
		if all || q.leftOut != tick {
			q.backlog.settle(tick)
		}
		s.endBacklog(q)
	}
}

// endBacklog lets a queue without a backlog use all of its room. mu is held.
func (s *Scheduler) endBacklog(q *queueState) {
	if q.backlog.any() {
		return
	}
	delete(s.mu.backlogged, q)
	if !q.full {
		q.limit = q.config.MaxReady
	}
	s.forget(q)
}
