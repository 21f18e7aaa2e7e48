package queue

import "time"

// maxRotation is how many classes of a queue may wait for a place. Those beyond it are
// found by later plans.
const maxRotation = 1 << 16

// A rotation is the classes of a full queue that have nothing in memory, although
// something due of them is in the spool, and no share of the places: there are fewer of
// these than classes. A place that is free goes to the one that waits longest, and the
// class that had it waits in turn.
type rotation struct {
	names   []string
	known   map[string]bool
	offered map[string]bool // a place, and not claimed yet
}

func (r *rotation) push(class string) {
	if r.known[class] || len(r.names) == maxRotation {
		return
	}
	if r.known == nil {
		r.known = map[string]bool{}
	}
	r.known[class] = true
	r.names = append(r.names, class)
}

func (r *rotation) pop() string {
	class := r.names[0]
	r.names = r.names[1:]
	delete(r.known, class)
	return class
}

func (r *rotation) offer(class string) {
	if r.offered == nil {
		r.offered = map[string]bool{}
	}
	r.offered[class] = true
}

func (r *rotation) any() bool { return len(r.names) > 0 || len(r.offered) > 0 }

// await has a class wait for a place of q, if there is none for it. mu is held.
func (q *queueState) await(class string) {
	if q.full && !q.short && q.ready.count(class) == 0 && q.backlog.has(class) {
		q.waiting.push(class)
	}
}

// offerPlaces has as many classes that wait claimed from as there are places free. mu is
// held.
func (s *Scheduler) offerPlaces(q *queueState) {
	w := &q.waiting
	for len(w.names) > 0 && q.ready.total()+len(w.offered) < q.limit {
		class := w.pop()
		if q.ready.count(class) == 0 && q.backlog.has(class) && s.hint(q, class, time.Now()) {
			w.offer(class)
		}
	}
}

// refill claims for a class, of which a job was taken, if claims leave its queue out
// because of others, and for one that waits for the place. mu is held.
func (s *Scheduler) refill(q *queueState, class string) {
	if !q.full {
		return
	}
	have := q.ready.count(class)
	s.offerPlaces(q)
	if have == 0 && q.waiting.any() {
		q.await(class)
		return
	}
	if q.backlog.has(class) && have <= q.ready.share(class, q.limit)/2 {
		s.hint(q, class, time.Now())
	}
}

// reopenAll offers anew what room there is of queues that claims leave out. mu is held.
func (s *Scheduler) reopenAll() {
	for q := range s.mu.full {
		if !q.short {
			clear(q.waiting.offered)
			s.offerPlaces(q)
			s.reopen(q)
		}
	}
}
