package boltspool

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A shortage is a reason for which new messages are refused, until it ends by
// itself. Several can hold at once.
type shortage uint32

const (
	shortBytes  shortage = 1 << iota // less than Options.Reserve is free, or a write found no room
	shortInodes                      // the same of Options.ReserveInodes
	shortQuota                       // Options.Quota is used up
)

// shortages are all of them, in the order in which Health names them.
var shortages = [...]struct {
	is           shortage
	err          error
	begins, ends string
}{
	{shortBytes, spool.ErrFull, "boltspool: no space; new messages are refused", "boltspool: there is space again"},
	{shortInodes, spool.ErrNoInodes, "boltspool: no inodes; new messages are refused", "boltspool: there are inodes again"},
	{shortQuota, spool.ErrQuota, "boltspool: the quota is used up; new messages are refused", "boltspool: there is room within the quota again"},
}

// watchInterval is how often a spool to which nothing is written looks whether
// its disk has filled up.
const watchInterval = time.Second

// short reports whether any of these shortages holds.
func (s *Spool) short(of shortage) bool { return shortage(s.shortages.Load())&of != 0 }

// shortageError returns the error of the first of these shortages that holds.
func (s *Spool) shortageError(of shortage) error {
	return s.explain(of & shortage(s.shortages.Load()))
}

// explain returns the error of the first of these shortages, nil without any.
func (s *Spool) explain(of shortage) error {
	for i := range shortages {
		if of&shortages[i].is != 0 {
			return fmt.Errorf("boltspool: %s: %w", s.dir, shortages[i].err)
		}
	}
	return nil
}

// setShort begins or ends a shortage.
func (s *Spool) setShort(kind shortage, short bool) {
	var old uint32
	if short {
		old = s.shortages.Or(uint32(kind))
	} else {
		old = s.shortages.And(^uint32(kind))
	}
	if shortage(old)&kind != 0 == short {
		return
	}
	for i := range shortages {
		switch {
		case shortages[i].is != kind:
		case short:
			s.logger.Warn(shortages[i].begins, "dir", s.dir, "reserve", s.opts.Reserve, "reserve_inodes", s.opts.ReserveInodes, "quota", s.opts.Quota)
			s.inbox.hint() // the committer looks from now on whether it has ended
		default:
			s.logger.Info(shortages[i].ends, "dir", s.dir)
		}
	}
	s.notify()
}

// room returns what is free. What is unknown counts as plenty: the write itself
// will tell.
func (s *Spool) room() vfs.Room {
	r, err := s.fs.Free(s.dir)
	if err == nil {
		s.roomUnknown.Store(false)
		return r
	}
	if !s.roomUnknown.Swap(true) {
		s.logger.Warn("boltspool: free space is unknown", "dir", s.dir, "error", err)
	}
	return vfs.Room{Bytes: math.MaxInt64, Inodes: math.MaxInt64}
}

// look begins the shortages that the file system shows.
func (s *Spool) look() {
	if s.opts.Reserve == 0 && s.opts.ReserveInodes == 0 {
		return
	}
	r := s.room()
	if r.Bytes < s.opts.Reserve {
		s.setShort(shortBytes, true)
	}
	if r.Inodes < s.opts.ReserveInodes {
		s.setShort(shortInodes, true)
	}
}

// checkSpace returns the error for what needs new space, if it must be refused.
func (s *Spool) checkSpace() error {
	if !s.short(shortBytes | shortInodes) {
		s.look()
	}
	return s.shortageError(shortBytes | shortInodes)
}

// checkStaging returns the error for a body that goes to a file, if it must be
// refused. It may be content of a stored message, or a notice, and use half of
// the reserve; whether it is one, Commit gets to know.
func (s *Spool) checkStaging() error {
	switch r := s.room(); {
	case r.Bytes < s.opts.Reserve/2:
		return s.explain(shortBytes)
	case r.Inodes < s.opts.ReserveInodes/2:
		return s.explain(shortInodes)
	}
	return nil
}

// foundFull notes that a write found no room, and returns what the caller is
// told.
func (s *Spool) foundFull(cause error) error {
	kind := shortBytes
	if s.room().Inodes <= 0 {
		kind = shortInodes
	}
	s.setShort(kind, true)
	return fmt.Errorf("%w: %w", s.explain(kind), cause) // which may have ended already
}

// watchSpace notices that the disk fills up, or has room again, while nothing is
// written. The committer calls it.
func (s *Spool) watchSpace() {
	if s.short(shortBytes | shortInodes) {
		s.probeSpace()
		return
	}
	if now := time.Now(); now.Sub(s.watched) >= watchInterval {
		s.watched = now
		s.look()
	}
}

// probeSpace ends the shortage of bytes once the reserve is free and the next
// messages would find room, and that of inodes. The committer calls it.
func (s *Spool) probeSpace() {
	if s.failed() != nil {
		return
	}
	r := s.room()
	if r.Inodes >= max(s.opts.ReserveInodes, 1) {
		s.setShort(shortInodes, false)
	}
	if !s.short(shortBytes) {
		return
	}
	s.renew()
	missing := s.opts.Reserve - s.room().Bytes
	if missing > s.log.Spares() {
		return
	}
	need := min(maxSegmentBody, s.opts.SegmentSize/4) // so that a spare has room for it
	if err := s.log.Secure(need, s.logKeep()); err != nil {
		s.probed(err)
		return
	}
	if missing > 0 { // what was allocated ahead makes the shortage
		s.log.GiveBack(missing, need+s.logKeep())
		if s.room().Bytes < s.opts.Reserve {
			return
		}
	}
	s.setShort(shortBytes, false)
}

// affords reports whether so many bytes can be allocated ahead without a shortage.
func (s *Spool) affords(bytes int64) bool {
	return s.opts.Reserve == 0 || s.room().Bytes-bytes >= s.opts.Reserve
}

// renew begins another segment, if that gives back what the current one takes.
func (s *Spool) renew() {
	renewed, err := s.log.Renew(s.logKeep())
	if err != nil {
		s.probed(err)
	}
	if !renewed {
		return
	}
	s.mu.Lock()
	s.mu.end.Place, s.mu.end.Number = s.log.End() // of which nothing before is needed, once a checkpoint says so
	s.mu.Unlock()
	s.keeper.hint()
}

// probed takes note of the error of a look for room. A sync cannot be tried again.
func (s *Spool) probed(err error) {
	if !errors.Is(err, vfs.ErrNoSpace) && !errors.Is(err, vfs.ErrTooMany) {
		s.fail(err)
	}
}

// quotaLow is how many bytes may be used for a quota that was used up to count
// as open again: a sixteenth less, so that it does not open for single messages.
func (s *Spool) quotaLow() int64 { return s.opts.Quota - s.opts.Quota/16 }

// admit returns the error for a unit that the quota has no room for, used being
// what is stored. What ends or changes a stored message is let through with all
// that belongs to it, a notice for instance: else a spool whose quota is used up
// could not empty itself. The committer calls it.
func (s *Spool) admit(u *unit, used int64) error {
	quota := s.opts.Quota
	switch {
	case quota == 0 || !u.fresh || used+u.growth <= quota:
		return nil
	case u.growth > quota:
		return fmt.Errorf("boltspool: %d bytes for one message are more than Options.Quota, %d: %w", u.growth, quota, spool.ErrTooLarge)
	}
	if used > s.quotaLow() {
		s.setShort(shortQuota, true)
	}
	return fmt.Errorf("boltspool: %s: %w: %d bytes of %d are used, and %d more are needed", s.dir, spool.ErrQuota, used, quota, u.growth)
}

// use takes note of how many bytes are stored. The committer calls it.
func (s *Spool) use(bytes int64) {
	switch quota := s.opts.Quota; {
	case quota == 0:
	case bytes >= quota:
		s.setShort(shortQuota, true)
	case bytes <= s.quotaLow():
		s.setShort(shortQuota, false)
	}
}
