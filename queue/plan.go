package queue

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	// planShare is how many times as long as a look at all queues of the spool
	// took there is none afterwards, so that it costs little however many there are.
	planShare = 100

	// crowdedShare is the same when there is no other way to claim.
	crowdedShare = 4

	// planSteps and planTime bound what one plan claims.
	planSteps = 1024
	planTime  = 50 * time.Millisecond

	// surveyBatch is at how many groups a plan looks while it holds mu.
	surveyBatch = 256

	// strangerBatch is how many entries are claimed of a queue of which nothing is
	// in memory.
	strangerBatch = 32
)

// planAt asks for a plan at t, at once if t is zero or has passed. mu is held.
func (s *Scheduler) planAt(t time.Time) { s.askFor(&s.mu.nextPlan, t) }

// A planner claims where a claim of what is due longest does not get: it looks
// at what the spool has due of each queue and class, and claims from each what it
// may have in memory, first of all for those that have nothing there. It is used
// when such a claim has left something behind, or has left out a queue that one
// class has filled.
//
// It runs as a task; neither another plan nor a claim runs beside it.
type planner struct {
	s       *Scheduler
	now     time.Time
	tick    uint64
	hinted  bool            // there is no need to look at all queues
	crowded bool            // only plans claim
	full    map[string]bool // the queues that only plans claim from
	barred  map[string]bool // if crowded, those that nothing claims from

	next  time.Time // when something falls due that only a plan claims; zero: never
	later []pick    // of that, groups of which it is known
	picks pickHeap
	more  bool  // something was left that might be claimed
	err   error // the spool failed
}

// A pick is a group of the spool to claim from.
type pick struct {
	queue, class string
	have         int // entries in memory; -1 for those that have ended
	due          time.Time
}

// newPlanner returns what is to run next. mu is held.
func (s *Scheduler) newPlanner(now time.Time, tick uint64, crowded bool) *planner {
	p := &planner{s: s, now: now, tick: tick, crowded: crowded, full: map[string]bool{}, barred: map[string]bool{}}
	for q := range s.mu.full {
		p.full[q.name] = true
	}
	if !crowded {
		return p
	}
	for name := range s.mu.unrouted {
		p.barred[name] = true
	}
	for name := range s.mu.suspended {
		p.barred[name] = true
	}
	return p
}

func (p *planner) run() {
	begin := time.Now()
	if p.hinted {
		// It is known what to claim.
	} else if p.err = p.survey(); p.err != nil && p.s.hard.Err() == nil {
		p.s.log.Warn("queue: asking the spool what is due in which queue; tried again", "error", p.err, "delay", retryDelay)
		p.s.fail(p.err)
	}
	cost := time.Since(begin)
	slices.SortFunc(p.picks, pick.compare)
	begin = time.Now()
	for i := 0; i < len(p.picks) && p.err == nil; i++ {
		if time.Since(begin) > planTime {
			p.more = true
			break
		}
		p.claim(&p.picks[i])
	}
	p.end(cost)
}

// survey looks at all groups of the spool. It holds mu for few of them at a time,
// and not at all for those that have nothing due.
func (p *planner) survey() error {
	var batch []spool.QueueInfo
	for info, err := range p.s.spool.Queues(p.s.hard) {
		switch {
		case err != nil:
			return err
		case info.NextDue.IsZero() || info.State == spool.Held:
			continue
		case info.State == spool.Queued && info.NextDue.After(p.now):
			p.fallsDue(info.Queue, info.Class, info.NextDue)
			continue
		}
		if batch = append(batch, info); len(batch) == surveyBatch {
			p.consider(batch)
			batch = batch[:0]
		}
	}
	p.consider(batch)
	return nil
}

// fallsDue notes when something falls due that only a plan claims; zero: never.
func (p *planner) fallsDue(queue, class string, at time.Time) {
	switch {
	case at.IsZero():
	case p.full[queue] && len(p.later) < maxHints:
		p.later = append(p.later, pick{queue: queue, class: class, due: at})
	case p.full[queue] || p.crowded && !p.barred[queue]:
		if p.next.IsZero() || at.Before(p.next) {
			p.next = at
		}
	}
}

// consider picks from groups that have something due.
func (p *planner) consider(batch []spool.QueueInfo) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	p.noteMemory()
	for _, info := range batch {
		one := pick{queue: info.Queue, class: info.Class, due: info.NextDue}
		q := s.mu.queues[info.Queue]
		switch {
		case info.State == spool.Final:
			one.have = -1
		case q != nil:
			one.have = q.ready.count(info.Class)
			s.noteBacklog(q, info.Class)
			s.noteFull(q)
			if one.have == 0 && (q.waiting.any() || q.wants(info.Class) <= 0) {
				q.await(info.Class)
				continue
			}
		}
		if s.wanted(&one) > 0 && p.picks.keep(one, planSteps) {
			p.more = true
		}
	}
}

// noteMemory has another plan made, when there is memory, for what there is none for
// now. mu is held.
func (p *planner) noteMemory() {
	p.more = p.more || p.s.mu.bytes >= p.s.opts.MemoryLimit
}

// noteFull has claims leave out a queue that has no room for what is due. mu is held.
func (s *Scheduler) noteFull(q *queueState) {
	if q.ready.total() >= q.limit {
		s.leaveOut(q)
	}
}

// wanted is how many entries of a pick there is room for. mu is held.
func (s *Scheduler) wanted(p *pick) int {
	if s.mu.phase != running || s.mu.bytes >= s.opts.MemoryLimit {
		return 0
	}
	if p.have < 0 {
		return claimBatch
	}
	if s.isSuspended(p.queue) || s.mu.unrouted[p.queue] {
		return 0
	}
	q := s.mu.queues[p.queue]
	if q == nil {
		if s.handler(p.queue) == nil {
			s.noteUnrouted(p.queue)
			return 0
		}
		return strangerBatch
	}
	return min(q.wants(p.class), claimBatch)
}

// wants is for how many further entries of a class q has room. A queue that is
// full has room for a class that has less than half of its share, at the cost of
// those that have more than theirs; a class without a share may have a place that is
// free. One that gave back what it had for want of memory has none before one of its
// slots is free.
func (q *queueState) wants(class string) int {
	have, share := q.ready.count(class), q.ready.share(class, q.limit)
	if !q.full {
		return max(share-have, q.limit-q.ready.total())
	}
	if have > share/2 || q.short {
		return 0
	}
	return max(share-have, min(1-have, q.limit-q.ready.total()))
}

// claim claims from one group.
func (p *planner) claim(one *pick) {
	s := p.s
	s.mu.Lock()
	s.mu.tick++
	tick, want := s.mu.tick, s.wanted(one)
	p.noteMemory()
	if q := s.mu.queues[one.queue]; q != nil && one.have >= 0 {
		delete(q.waiting.offered, one.class)
		if want == 0 {
			q.await(one.class)
		}
	}
	s.mu.Unlock()
	if want == 0 {
		return
	}
	entries, next, err := s.spool.Claim(s.hard, spool.ClaimRequest{
		Queues: []string{one.queue}, Class: one.class, Due: p.now, Limit: want,
	})
	if !s.claimed(err) {
		p.err = err
		return
	}
	s.mu.Lock()
	back := s.admit(entries)
	if q := s.mu.queues[one.queue]; q != nil && one.have >= 0 {
		switch left := isDue(next, p.now); {
		case !left:
			q.backlog.settleClass(one.class, tick)
			if q.full && !next.IsZero() {
				s.hint(q, one.class, next)
			} else {
				p.fallsDue(one.queue, one.class, next)
			}
		case q.wants(one.class) > 0 && q.full:
			s.hint(q, one.class, p.now)
		case q.wants(one.class) > 0:
			p.more = true
		default:
			s.noteFull(q)
		}
		s.offerPlaces(q)
		s.reopen(q)
	}
	s.mu.Unlock()
	s.release(back)
}

// end has the loop go on.
func (p *planner) end(cost time.Duration) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.claiming = false
	for _, l := range p.later {
		if q := s.mu.queues[l.queue]; q != nil {
			s.hint(q, l.class, l.due)
		}
	}
	pause := planShare * cost
	switch {
	case p.err != nil:
		pause = retryDelay
	case p.crowded:
		pause = crowdedShare * cost
	}
	if p.crowded {
		s.claimAt(p.now.Add(claimInterval))
	}
	if p.err == nil && !p.hinted {
		s.settleBacklogs(p.tick, true)
		s.reopenAll()
	}
	if p.err != nil || !p.hinted {
		s.mu.planFrom = time.Now().Add(pause)
	}
	if p.more || p.err != nil {
		s.planAt(time.Time{})
	}
	if !p.next.IsZero() {
		s.planAt(p.next)
	}
	s.claimShed()
	s.kick()
}

// compare orders picks by who has the least in memory, and then by who waits
// longest.
func (p pick) compare(other pick) int {
	return cmp.Or(cmp.Compare(p.have, other.have), p.due.Compare(other.due))
}

// A pickHeap keeps the first picks of many. Its first one is the last of them.
type pickHeap []pick

// keep adds p. If there are more than n, it drops the last one, and says so.
func (h *pickHeap) keep(p pick, n int) (dropped bool) {
	if len(*h) < n {
		heap.Push(h, p)
		return false
	}
	if p.compare((*h)[0]) < 0 {
		(*h)[0] = p
		heap.Fix(h, 0)
	}
	return true
}

func (h pickHeap) Len() int           { return len(h) }
func (h pickHeap) Less(i, k int) bool { return h[i].compare(h[k]) > 0 }
func (h pickHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }
func (h *pickHeap) Push(x any)        { *h = append(*h, x.(pick)) }
func (h *pickHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	*h = old[:len(old)-1]
	return p
}
