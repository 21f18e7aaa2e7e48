package queue

import (
	"sync"
	"time"
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

// look reports whether the wall clock was set since the last look.
func (c *clockWatch) look(now time.Time) bool {
	c.mu.Lock()
	begin, wall := c.mu.begin, c.mu.wall
	c.mu.Unlock()
	return c.observe(now.Round(0).Sub(wall), now.Sub(begin))
}

// observe takes the time that has passed since start on both clocks.
func (c *clockWatch) observe(wall, mono time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if drift := wall - mono - c.mu.offset; drift > -clockTolerance && drift < clockTolerance {
		return false
	}
	c.mu.offset = wall - mono
	c.mu.until = c.mu.begin.Add(mono + clockPause)
	return true
}

// paused reports whether expiring is paused at now.
func (c *clockWatch) paused(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.mu.until)
}
