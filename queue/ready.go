package queue

import "slices"

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
