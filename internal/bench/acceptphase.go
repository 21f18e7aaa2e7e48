package main

import "time"

// What accept does where -duration does not say otherwise. Small messages need
// longer, so that what a spool does only now and then is in the figures: a change
// to the next segment, and with it a checkpoint of the index.
const (
	smallSize     = 64 << 10 // less is small
	smallDuration = 5 * time.Second
	largeDuration = 1200 * time.Millisecond
	quickDuration = 300 * time.Millisecond

	segmentBytes = 64 << 20 // boltspool.Options.SegmentSize, as it is by default
	longestTimes = 3        // how much longer it may take until one is full
)

// What the spool in memory may keep: bodies, and what is known of each recipient.
const (
	memoryBytes     = 512 << 20
	memoryRecipient = 1 << 10
)

// measured is what is measured of a trial. That of boltspool fills a segment at least.
func (f *acceptFlags) measured(t trial) phase {
	p := phase{Duration: f.durationOf(t.Size), Messages: f.messages}
	switch {
	case t.Subject == subjectBoltspool && f.duration == 0:
		p.Least, p.Longest = segmentBytes/t.Size+1, longestTimes*p.Duration
	case t.Subject == subjectMemory:
		n := max(1, memoryBytes/(t.Size+t.Recipients*memoryRecipient))
		if p.Messages == 0 || p.Messages > n {
			p.Messages = n
		}
	}
	return p
}

func (f *acceptFlags) durationOf(size int) time.Duration {
	switch {
	case f.duration > 0:
		return f.duration
	case size < smallSize:
		return smallDuration
	}
	return largeDuration
}

// What is sent before anything is measured, at the most.
const (
	maxWarmup    = time.Second
	acceptWarmup = maxWarmup / 2
	warmupBytes  = 64 << 20
)

// warmup is what comes before it.
func (f *acceptFlags) warmup(t trial) phase {
	p := phase{Duration: min(f.durationOf(t.Size)/3, acceptWarmup), Messages: f.messages}
	if n := max(1, warmupBytes/t.Size); p.Messages == 0 || p.Messages > n {
		p.Messages = n
	}
	return p
}
