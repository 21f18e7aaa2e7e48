package boltspool_test

import (
	"errors"
	"math/rand/v2"
	"net/textproto"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestENOSPCHost fills the disk of a mail host, and looks from outside: clients
// are told to try again and nothing worse, a host starts on the full disk, what is
// queued is tried, put off, delivered, bounced and removed, also with notices, and
// when there is room again mail is accepted without another start. The long form
// does it on real disks, which are filled by mail or by another program; in the
// short form the host is told how much is free.
func TestENOSPCHost(t *testing.T) {
	if !*boltspool.Long {
		t.Log("short form: the host is told that its disk is full; with -long it is")
		newFullTest(t, t.TempDir(), fullCase{size: 20_000, big: 20, Reserve: 4 << 20, SegmentSize: 2 << 20}).run()
		return
	}
	for _, c := range []fullCase{
		{name: "mail", mib: 48, size: 20_000, SegmentSize: 2 << 20, Reserve: 4 << 20},
		{name: "big mail", mib: 64, size: 20_000, big: 2, SegmentSize: 2 << 20, Reserve: 4 << 20},
		{name: "no reserve", mib: 32, size: 20_000, big: 20, SegmentSize: 2 << 20, Reserve: -1},
		{name: "another program", mib: 96, size: 20_000, big: 20, SegmentSize: 2 << 20, Reserve: 24 << 20, fill: space},
		{name: "inodes", mib: 96, mkfs: []string{"-N", "256"}, size: 20_000, big: 5, SegmentSize: 2 << 20, Reserve: 4 << 20, ReserveInodes: 64, fill: inodes},
		{name: "defaults", mib: 400, size: 400_000, big: 10},
		{name: "defaults, another program", mib: 400, size: 20_000, big: 20, fill: space},
	} {
		ok := t.Run(c.name, func(t *testing.T) {
			disk, err := testdisk.New(t, c.mib, c.mkfs...)
			if err != nil {
				t.Fatal(err)
			}
			newFullTest(t, disk, c).run()
		})
		if !ok {
			return // what has stopped may take a minute each time
		}
	}
}

// What another program fills.
const (
	nothing = iota
	space
	inodes
)

// A fullCase is how a disk becomes full.
type fullCase struct {
	name string
	mib  int64
	mkfs []string
	fill int // by another program; nothing: by mail
	size int // of a message
	big  int // one in so many messages is large; 0: none

	SegmentSize, Reserve, ReserveInodes int64
}

// A fullTest is hosts on a disk that is full.
type fullTest struct {
	*killTest
	fullCase
	disk    string
	senders *senders
	filler  *filler
	gone    map[spool.ID]bool // delivered or bounced by the host that runs

	full, freed time.Time   // between them nothing may be accepted, unless the disk is filled by mail
	down        []time.Time // when a host was told to end, and when the next one listened, in turn
}

func newFullTest(t *testing.T, disk string, c fullCase) *fullTest {
	f := &fullTest{
		killTest: newKillTestIn(t, filepath.Join(disk, "spool"), 100*time.Millisecond), fullCase: c,
		disk: disk, gone: map[spool.ID]bool{},
	}
	f.hostConfig.SegmentSize, f.hostConfig.Reserve, f.hostConfig.ReserveInodes = c.SegmentSize, c.Reserve, c.ReserveInodes
	f.PretendFree = !*boltspool.Long
	f.senders = newSenders(f.bag, f.mail)
	return f
}

// mail is what clients deliver: some of it passes through, most of it waits.
func (f *fullTest) mail() (content []byte, kinds []string) {
	kinds = []string{[]string{"wait", "wait", "wait", "bounce", "notice", "ok", "relay"}[rand.IntN(7)]}
	if rand.IntN(5) == 0 {
		kinds = append(kinds, "wait")
	}
	if f.big > 0 && rand.IntN(f.big) == 0 {
		return paddedContent(1_100_000 + rand.IntN(500_000)), kinds
	}
	return paddedContent(f.size/2 + rand.IntN(f.size)), kinds
}

// run fills the disk, has a host killed and another stopped on it, empties the
// spool, and makes room.
func (f *fullTest) run() {
	f.t.Helper()
	h, stop := f.open()
	f.fillUp(h)
	f.refusal(h)
	f.full = time.Now()
	for _, kill := range []bool{true, false} {
		f.end(h, kill)
		stop()
		h, stop = f.open()
		f.refusal(h)
	}
	h.say(sayWork)
	for id := range f.entries {
		f.gone[id] = false
	}
	f.drain(h, f.gone)
	f.makeRoom(h)
	f.bag.load(h, 20)
	stop()
	for id := range f.bag.snapshot() {
		f.gone[id] = f.gone[id] || f.ended[id]
	}
	f.drain(h, f.gone)
	f.check(h.stop())
	f.finish()
	f.replies()
}

// open starts a host, and clients that deliver.
func (f *fullTest) open() (h *hostProcess, stop func()) {
	f.t.Helper()
	h = f.start()
	addr := h.listening()
	if len(f.down)%2 != 0 {
		f.down = append(f.down, time.Now())
	}
	return h, f.senders.start(f.t, addr, 4)
}

// end ends a host and looks at what it leaves.
func (f *fullTest) end(h *hostProcess, kill bool) {
	f.t.Helper()
	f.down = append(f.down, time.Now())
	f.closed = !kill
	if kill {
		f.check(f.kill(h))
	} else {
		f.check(h.stop())
	}
	f.PretendFull = f.PretendFree
}

// fillUp fills the disk, or lets the mail do it.
func (f *fullTest) fillUp(h *hostProcess) {
	f.t.Helper()
	if f.fill == nothing && !f.PretendFree {
		return
	}
	f.bag.load(h, 40)
	if f.PretendFree {
		h.say(sayFull)
		return
	}
	f.filler = fillDisk(f.t, f.disk, f.fill == inodes)
	select {
	case <-f.filler.full:
	case <-f.filler.done:
	}
}

// makeRoom takes away what fills the disk beside the spool.
func (f *fullTest) makeRoom(h *hostProcess) {
	f.t.Helper()
	f.freed = time.Now()
	switch {
	case f.PretendFree:
		h.say(sayFree)
	case f.filler != nil:
		f.filler.free()
	default:
		f.full = f.freed // the host itself makes room all the time
	}
}

// refusal waits until a client is refused.
func (f *fullTest) refusal(h *hostProcess) {
	f.t.Helper()
	select {
	case <-f.senders.refused: // earlier
	default:
	}
	select {
	case <-f.senders.refused:
	case <-h.ended:
		f.t.Fatalf("the host ended on a full disk; it said:\n%s", &h.stderr)
	case <-time.After(hostTimeout):
		f.t.Fatal("the disk does not become full")
	}
}

// replies checks what clients were told.
func (f *fullTest) replies() {
	f.t.Helper()
	accepted, refused, why := 0, 0, "4.3.1 Insufficient disk space"
	if f.fill == inodes {
		why = "4.3.1 Insufficient inodes"
	}
	for _, d := range f.senders.dealings() {
		reply, ok := errors.AsType[*textproto.Error](d.err)
		switch {
		case d.err == nil && d.begun.After(f.full) && d.begun.Before(f.freed):
			f.t.Errorf("a message was accepted %v after the disk was full", d.begun.Sub(f.full))
		case d.err == nil:
			accepted++
		case ok && reply.Code == 452 && strings.HasPrefix(reply.Msg, why):
			refused++
		case f.isDown(d.ended) && (!ok || reply.Code == 421 && strings.HasPrefix(reply.Msg, "4.3.2 ")):
		default:
			f.t.Errorf("a client was told %v", d.err)
		}
	}
	f.t.Logf("%d messages were accepted, %d of them ended with a notice; %d were refused", accepted, len(f.notices), refused)
	if len(f.notices) == 0 {
		f.t.Error("no message ended with a notice")
	}
}

// isDown reports whether a host ended then, and the next one did not listen yet.
func (f *fullTest) isDown(at time.Time) bool {
	for i := 0; i+1 < len(f.down); i += 2 {
		if at.After(f.down[i]) && at.Before(f.down[i+1]) {
			return true
		}
	}
	return false
}
