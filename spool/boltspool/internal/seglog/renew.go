package seglog

import (
	"errors"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// minDivided is the least room that Renew divides.
const minDivided = 128 << 10

// Renew begins another segment with room for keep bytes if the current one has become
// long and hardly anything in it is needed, so that it can be taken away; or if it is half
// full, and nothing at all is needed, with a spare that is there. Where nothing can be
// allocated, and nothing at all in it is needed, half of the room
// behind its end becomes that of the new one. It reports whether it did.
func (l *Log) Renew(keep int64) (bool, error) {
	if l.cur == nil || l.capacity < 0 {
		return false, nil
	}
	l.mu.Lock()
	live := l.cur.live
	l.mu.Unlock()
	spare := l.hasSpare(segmentHeader + keep)
	long, idle := l.off >= 2*keep && live <= l.off/2, l.off > l.Size/2 && live == 0 && spare
	if !long && !idle {
		return false, nil
	}
	if !spare {
		err := l.addSpare(segmentHeader + keep)
		if errors.Is(err, vfs.ErrNoSpace) && live == 0 {
			err = l.divide()
		}
		if err != nil {
			return false, err
		}
	}
	if err := l.rotate(); err != nil {
		return false, err
	}
	err := l.cur.f.Sync() // a checkpoint may name it before there is a group
	return err == nil, err
}

// divide makes a spare of half of the room behind the end of the current segment.
func (l *Log) divide() error {
	const page = 4 << 10
	half := (l.capacity - l.off) / 2 &^ (page - 1)
	if half < minDivided/2 {
		return vfs.ErrNoSpace
	}
	if err := l.cur.f.Truncate(l.capacity - half); err != nil {
		return vfs.WriteError(err)
	}
	l.capacity -= half
	return l.addSpare(half - half/8) // what the file itself takes must have room, too
}
