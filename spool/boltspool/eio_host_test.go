package boltspool_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestEIOHost lets calls of a mail host fail, one kind after the other, and looks
// from outside: at the replies to its clients, at how it ends, at what a power cut
// would leave then, and at what the next host finds and does. The long form uses
// strace. The short form has no power to cut, and only those syncs fail that pass
// through a hook.
func TestEIOHost(t *testing.T) {
	e := &eioTest{t: t, base: t.TempDir(), met: map[eioKind]int{}}
	if *boltspool.Long {
		e.trace = filepath.Join(e.base, "trace")
		if _, err := exec.LookPath("strace"); err != nil {
			t.Fatal("the test needs strace, of Debian's package strace")
		}
		disk, err := testdisk.NewPower(t, 512)
		if err != nil {
			t.Fatal(err)
		}
		e.disk, e.base = disk, disk.Dir
	} else {
		t.Log("short form: syncs fail by a hook, and no power is cut; with -long every kind of call does, by strace")
	}
	for _, kind := range eioKinds {
		if kind.aim != byChance && (*boltspool.Long || kind.isSync()) {
			e.meet(kind)
		}
	}
	e.finish()
}

// An eioTest is hosts whose calls fail.
type eioTest struct {
	t             *testing.T
	base          string          // the directory of the spools
	disk          *testdisk.Power // nil in the short form
	trace         string          // what strace writes
	spools, lives int

	k                     *killTest
	met                   map[eioKind]int // how often, by kind
	refused, acked, found int
}

// begin makes what follows happen on a new spool.
func (e *eioTest) begin() {
	e.spools++
	e.k = newKillTestIn(e.t, filepath.Join(e.base, fmt.Sprintf("spool-%d", e.spools)), 50*time.Millisecond)
	e.k.Reserve = 8 << 20
}

// meet has hosts work until a fault of this kind was met.
func (e *eioTest) meet(kind eioKind) {
	e.t.Helper()
	for try := 1; e.met[kind] < kind.times(*boltspool.Long); try++ {
		if try > 80 { // each thread counts for itself
			e.t.Errorf("%v was not met in %d lives of a host", kind.fault, try-1)
			return
		}
		once := kind.aim == atBig || kind.file == "spare" // what was made is used again
		if kind.aim == atFirst || e.k == nil || once && try == 1 {
			e.begin()
		}
		l := e.newLife(kind.aim)
		if *boltspool.Long {
			l.judge(l.traced(kind))
		} else {
			l.judge(l.hooked(kind, try))
		}
	}
}

// traced is the life with strace. Each thread of a host counts its calls for
// itself, so that which one fails is left to chance, unless there is a path that
// leads to it.
func (l *eioLife) traced(kind eioKind) []hit {
	l.t.Helper()
	paths, from := kind.paths(l.k.Dir), 1
	switch {
	case len(paths) == 0 && kind.call != "unlinkat" && kind.call != "renameat":
		from += rand.IntN(12) // beyond those of opening
	case kind.aim == atWork || kind.aim == atBig || kind.aim == atStop && (kind.isSync() || kind.file == "index.db"):
		from += rand.IntN(5)
	}
	which := strconv.Itoa(from)
	if kind.fate == harmless {
		which += "+"
	}
	l.cfg.wrap = strace(l.trace, kind.call, which, paths)
	l.run()
	hits, err := readHits(l.trace, l.k.Dir)
	if err != nil {
		l.t.Fatal(err)
	}
	return hits
}

// hooked is the life with a hook. A segment that was a spare goes by its old name
// there.
func (l *eioLife) hooked(kind eioKind, try int) (hits []hit) {
	l.t.Helper()
	l.cfg.FailFile, l.cfg.FailSync = kind.file, 1
	if kind.aim != atFirst && kind.aim != atRestart {
		l.cfg.FailSync += (try - 1) % 5 // the first may be those of opening
	}
	l.run()
	for _, ev := range l.events {
		if ev.Kind == "sync failed" {
			hits = append(hits, hit{ev.Time, "sync", kind.file})
		}
	}
	return hits
}

func (e *eioTest) finish() {
	e.t.Helper()
	kinds := 0
	for _, k := range eioKinds {
		if e.met[k] > 0 {
			kinds++
			e.t.Logf("%4d times: %s, %s of %s", e.met[k], k.during, k.call, k.file)
		}
	}
	e.t.Logf("%d kinds of faults in %d lives of hosts; %d messages were acknowledged and %d refused; power cuts left %d",
		kinds, e.lives, e.acked, e.refused, e.found)
	if e.acked == 0 || e.refused == 0 {
		e.t.Error("the test saw no message, or none refused")
	}
}

// count notes what was met. To make a spool and to open one again are two things.
func (e *eioTest) count(f fault, aim aim) {
	for _, k := range eioKinds {
		if f.is(k.fault) && (k.during != "opening" || k.aim == aim) {
			e.met[k]++
		}
	}
}

// cut looks at what a power cut would leave now.
func (e *eioTest) cut(past []hostEvent) {
	e.t.Helper()
	if e.disk == nil {
		return
	}
	p := &powerTest{t: e.t, hostConfig: e.k.hostConfig, disk: e.disk, bag: e.k.bag}
	acked := e.k.bag.snapshot()
	maps.DeleteFunc(acked, func(id spool.ID, _ string) bool { return e.k.ended[id] })
	image, err := e.disk.Cut()
	if err != nil {
		e.t.Fatal(err)
	}
	p.lookAt(image, acked, endings(past))
	e.found += p.found
	for _, err := range p.losses {
		e.t.Errorf("after a power cut: %v", err)
	}
}
