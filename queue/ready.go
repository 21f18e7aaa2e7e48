package queue

import (
	"cmp"
	"container/heap"
	"slices"
)

// A readyList has the jobs of one queue that do not run yet, in a list per class.
// Those that may run are taken in turns: a class of weight two gets two turns
// where one of weight one gets one.
//
// It is self-clocked fair queueing. Each class that has something to run stands
// in a heap by the time at which its next job would be done if each job took the
// inverse of its class's weight; that of the job taken last is the time of the
// list. A class that comes in anew starts from there: it has saved up nothing
// while it was away, and owes nothing. A class with nothing in memory is not known.
type readyList struct {
	weights map[string]int // nil: all alike
	classes map[string]*readyClass
	turns   classHeap // the classes that have something to run
	finals  fifo      // messages that have ended come first and belong to no class

	now    uint64
	turn   uint64 // counts what was put into turns
	ready  int    // jobs of all classes that may run
	later  int    // and that may not run yet
	weight int    // of all classes
}

// A readyClass is the part of one class.
type readyClass struct {
	name   string
	weight int
	jobs   fifo
	later  []*job // in no order; their places are job.place
	done   uint64 // when its next job would be done
	turn   uint64 // decides between equal times
	index  int    // in readyList.turns; -1: not there
}

const (
	jobCost   = 1 << 20 // what a job of weight one takes
	maxWeight = jobCost
)

// len counts what may run, finals included.
func (l *readyList) len() int { return l.ready + l.finals.len() }

// total counts what has room to be found: everything but the finals.
func (l *readyList) total() int { return l.ready + l.later }

// count is total of one class.
func (l *readyList) count(class string) int {
	if c := l.classes[class]; c != nil {
		return c.total()
	}
	return 0
}

func (c *readyClass) total() int { return c.jobs.len() + len(c.later) }

// setWeights changes the weights from the next turn of each class on.
func (l *readyList) setWeights(weights map[string]int) {
	l.weights, l.weight = weights, 0
	for _, c := range l.classes {
		c.weight = l.weightOf(c.name)
		l.weight += c.weight
	}
}

func (l *readyList) weightOf(class string) int { return min(max(l.weights[class], 1), maxWeight) }

// share is how many of n places a class may claim for itself while all that are
// there want some.
func (l *readyList) share(class string, n int) int {
	w, sum := l.weightOf(class), l.weight
	if l.classes[class] == nil {
		sum += w
	}
	return n * w / sum
}

func (l *readyList) class(name string) *readyClass {
	c := l.classes[name]
	if c == nil {
		if l.classes == nil {
			l.classes = map[string]*readyClass{}
		}
		c = &readyClass{name: name, weight: l.weightOf(name), index: -1}
		l.classes[name] = c
		l.weight += c.weight
	}
	return c
}

// settle brings a class, from which something was taken, to where it belongs.
func (l *readyList) settle(c *readyClass) {
	if c.jobs.len() == 0 && c.index >= 0 {
		heap.Remove(&l.turns, c.index)
	}
	if c.total() == 0 {
		delete(l.classes, c.name)
		l.weight -= c.weight
	}
	if len(l.turns) == 0 {
		l.now, l.turn = 0, 0
	}
}

// push adds a job that may run.
func (l *readyList) push(j *job) {
	c := l.class(j.entry.Class)
	c.jobs.push(j)
	l.ready++
	if c.index < 0 {
		l.queueUp(c, l.now)
		heap.Push(&l.turns, c)
	}
}

// queueUp says when the next job of c is done that is begun at a time.
func (l *readyList) queueUp(c *readyClass, begin uint64) {
	l.turn++
	c.done, c.turn = begin+jobCost/uint64(c.weight), l.turn
}

// pushFinal adds a message that has ended.
func (l *readyList) pushFinal(j *job) { l.finals.push(j) }

// popFinal takes out a message that has ended; nil if there is none.
func (l *readyList) popFinal() *job { return l.finals.pop() }

// pop takes out the job whose turn it is; nil if there is none.
func (l *readyList) pop() *job {
	if len(l.turns) == 0 {
		return nil
	}
	c := l.turns[0]
	j := c.jobs.pop()
	l.ready--
	l.now = c.done
	if c.jobs.len() > 0 {
		l.queueUp(c, c.done)
		heap.Fix(&l.turns, 0)
	} else {
		l.settle(c)
	}
	return j
}

// putOff adds a job that may not run yet.
func (l *readyList) putOff(j *job) {
	c := l.class(j.entry.Class)
	j.place = len(c.later)
	c.later = append(c.later, j)
	l.later++
}

// mature lets a job run that was put off.
func (l *readyList) mature(j *job) {
	c := l.classes[j.entry.Class]
	c.unlist(j)
	l.later--
	l.push(j)
}

// unlist takes a job out of those that may not run yet.
func (c *readyClass) unlist(j *job) {
	last := len(c.later) - 1
	c.later[j.place] = c.later[last]
	c.later[j.place].place = j.place
	c.later[last] = nil
	c.later = c.later[:last]
}

// cut keeps n jobs, finals not counted, and takes the others out: always from the
// class that has the most for its weight, and of it what would run last.
func (l *readyList) cut(n int) (out []*job) {
	excess := l.total() - n
	if excess <= 0 {
		return nil
	}
	fat := make(fattest, 0, len(l.classes))
	for _, c := range l.classes {
		fat = append(fat, c)
	}
	heap.Init(&fat)
	for range excess {
		c := fat[0]
		out = append(out, l.takeLast(c))
		if c.total() == 0 {
			heap.Pop(&fat)
		} else {
			heap.Fix(&fat, 0)
		}
	}
	return out
}

func (l *readyList) takeLast(c *readyClass) (j *job) {
	if last := len(c.later) - 1; last >= 0 {
		j = c.later[last]
		c.unlist(j)
		l.later--
	} else {
		j = c.jobs.popLast()
		l.ready--
	}
	l.settle(c)
	return j
}

// take takes out the jobs that want says yes to, finals among them.
func (l *readyList) take(want func(*job) bool) (out []*job) {
	take := func(j *job) bool {
		if !want(j) {
			return false
		}
		out = append(out, j)
		return true
	}
	l.finals.remove(take)
	for _, c := range l.classes {
		was := c.jobs.len()
		c.jobs.remove(take)
		l.ready -= was - c.jobs.len()
		for i := len(c.later) - 1; i >= 0; i-- {
			if j := c.later[i]; take(j) {
				c.unlist(j)
				l.later--
			}
		}
		l.settle(c)
	}
	return out
}

// each calls f with every job that may run, finals among them.
func (l *readyList) each(f func(*job)) {
	l.finals.each(f)
	for _, c := range l.classes {
		c.jobs.each(f)
	}
}

// all takes everything out, finals included.
func (l *readyList) all() []*job {
	out := l.cut(0)
	for j := l.finals.pop(); j != nil; j = l.finals.pop() {
		out = append(out, j)
	}
	return out
}

// classHeap orders classes by their turn.
type classHeap []*readyClass

func (h classHeap) Len() int { return len(h) }
func (h classHeap) Less(i, k int) bool {
	return cmp.Or(cmp.Compare(h[i].done, h[k].done), cmp.Compare(h[i].turn, h[k].turn)) < 0
}
func (h classHeap) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].index, h[k].index = i, k
}
func (h *classHeap) Push(x any) {
	c := x.(*readyClass)
	c.index = len(*h)
	*h = append(*h, c)
}
func (h *classHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	c.index = -1
	return c
}

// fattest orders classes by how much they have for their weight, the most first;
// between equals the one that came last, so that it does not displace another.
type fattest []*readyClass

func (h fattest) Len() int { return len(h) }
func (h fattest) Less(i, k int) bool {
	a, b := h[i].total()*h[k].weight, h[k].total()*h[i].weight
	return a > b || a == b && h[i].turn > h[k].turn
}
func (h fattest) Swap(i, k int) { h[i], h[k] = h[k], h[i] }
func (h *fattest) Push(x any)   { *h = append(*h, x.(*readyClass)) }
func (h *fattest) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

// A fifo is a queue of jobs whose last one can be taken out, too.
type fifo struct {
	items []*job
	head  int // those before it are gone
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) push(j *job) {
	if f.head > 16 && f.head > len(f.items)/2 && len(f.items) == cap(f.items) {
		f.items = slices.Delete(f.items, 0, f.head)
		f.head = 0
	}
	f.items = append(f.items, j)
}

// pop takes the first one out; nil if there is none.
func (f *fifo) pop() *job {
	if f.len() == 0 {
		return nil
	}
	j := f.items[f.head]
	f.items[f.head] = nil
	f.head++
	f.rest()
	return j
}

// popLast takes the last one out, which must be there.
func (f *fifo) popLast() *job {
	last := len(f.items) - 1
	j := f.items[last]
	f.items[last] = nil
	f.items = f.items[:last]
	f.rest()
	return j
}

// remove takes out those that match.
func (f *fifo) remove(match func(*job) bool) {
	f.items = slices.DeleteFunc(f.items[f.head:], match)
	f.head = 0
	f.rest()
}

// rest forgets the places of those that are gone when nothing is left.
func (f *fifo) rest() {
	if f.len() == 0 {
		f.items, f.head = f.items[:0], 0
	}
}

// each calls f with every job.
func (f *fifo) each(do func(*job)) {
	for _, j := range f.items[f.head:] {
		do(j)
	}
}
