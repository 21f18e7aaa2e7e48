package queue

import (
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A readyList has the jobs of a queue that may run, in the order in which they
// do.
type readyList struct{ jobs []*job }

func (l *readyList) len() int { return len(l.jobs) }

func (l *readyList) push(j *job) { l.jobs = append(l.jobs, j) }

// pop takes the next job out; nil if there is none.
func (l *readyList) pop() *job {
	if len(l.jobs) == 0 {
		return nil
	}
	j := l.jobs[0]
	l.jobs[0] = nil
	l.jobs = l.jobs[1:]
	return j
}

// cut keeps n jobs and takes the others out, those that would run last.
func (l *readyList) cut(n int) (out []*job) {
	out = slices.Clone(l.jobs[n:])
	clear(l.jobs[n:])
	l.jobs = l.jobs[:n]
	return out
}

// take takes the jobs out that want says yes to.
func (l *readyList) take(want func(*job) bool) (out []*job) {
	l.jobs = slices.DeleteFunc(l.jobs, func(j *job) bool {
		if !want(j) {
			return false
		}
		out = append(out, j)
		return true
	})
	return out
}

// popFinal takes the next job out whose message has ended; nil if there is none.
func (l *readyList) popFinal() *job {
	i := slices.IndexFunc(l.jobs, func(j *job) bool { return j.entry.State == spool.Final })
	if i < 0 {
		return nil
	}
	j := l.jobs[i]
	l.jobs = slices.Delete(l.jobs, i, i+1)
	return j
}

// each calls f with every job.
func (l *readyList) each(f func(*job)) {
	for _, j := range l.jobs {
		f(j)
	}
}
