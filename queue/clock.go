package queue

import (
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	clockTolerance = time.Minute // between wall and monotonic clock
	clockPause     = time.Hour   // for which nothing expires after the wall clock was set
)

// A clockWatch notices that the wall clock was set: mail that is suddenly a
// week old must not expire by that. It compares the wall clock with the
// monotonic one.
type clockWatch struct {
	mu struct {
		sync.Mutex
		wall   time.Time     // at start, without monotonic reading
		begin  time.Time     // at start, with it
		offset time.Duration // wall minus monotonic, as far as it was accepted
		until  time.Time     // with monotonic reading
	}
}

func (c *clockWatch) start(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.begin, c.mu.wall = now, now.Round(0)
}

// look returns by how much the wall clock was set since the last look; 0: it was not.
func (c *clockWatch) look(now time.Time) time.Duration {
	c.mu.Lock()
	begin, wall := c.mu.begin, c.mu.wall
	c.mu.Unlock()
	return c.observe(now.Round(0).Sub(wall), now.Sub(begin))
}

// observe takes the time that has passed since start on both clocks.
func (c *clockWatch) observe(wall, mono time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	drift := wall - mono - c.mu.offset
	if drift > -clockTolerance && drift < clockTolerance {
		return 0
	}
	c.mu.offset = wall - mono
	c.mu.until = c.mu.begin.Add(mono + clockPause)
	return drift
}

// paused reports whether expiring is paused at now.
func (c *clockWatch) paused(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.mu.until)
}

// lookAtClock notices that the wall clock was set.
func (s *Scheduler) lookAtClock(now time.Time) {
	drift := s.clock.look(now)
	if drift == 0 {
		return
	}
	s.log.Warn("queue: the wall clock was set; no message expires for an hour", "now", now.Round(0), "by", drift)
	if drift < 0 {
		s.pool.run(s.cutDues)
	}
}

// clockPaused reports whether expiring is paused at now. It looks at the clock
// itself: the loop may sleep for up to claimInterval after the clock was set.
func (s *Scheduler) clockPaused(now time.Time) bool {
	s.lookAtClock(now)
	return s.clock.paused(now)
}

// cutDues cuts the due times of all that is queued: those that a clock set too far
// ahead had put off for years stay so far away when it is set right.
func (s *Scheduler) cutDues() {
	configs := map[string]Config{} // used by one page of the action after the other
	cut := func(e *spool.Entry, now time.Time) time.Time {
		c, ok := configs[e.Queue]
		if !ok {
			c = s.opts.Configure(e.Queue).withDefaults(e.Queue)
			configs[e.Queue] = c
		}
		return cutDue(e.Due, now, c)
	}
	a := action{
		filter: Filter{All: true, States: []spool.State{spool.Queued}}, s: s, now: time.Now(),
		idle: func(e *spool.Entry, now time.Time) bool { return cut(e, now).Equal(e.Due) },
		change: func(_ *action, e *spool.Entry, now time.Time) (Record, error) {
			e.Due = cut(e, now)
			return Record{}, nil // nothing has happened to the message
		},
	}
	if err := a.run(s.jobs); err != nil && s.jobs.Err() == nil {
		s.log.Warn("queue: cutting due times after the wall clock was set", "error", err)
	}
	if a.result.Done > 0 {
		s.log.Info("queue: due times beyond MaxAge were cut after the wall clock was set", "messages", a.result.Done)
	}
}
