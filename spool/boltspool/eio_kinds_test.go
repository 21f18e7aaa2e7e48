package boltspool_test

import (
	"strings"

	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// A fate is what a fault makes of a host.
type fate int

const (
	unknown   fate = iota
	opensNot       // it ends with the error, and has accepted nothing
	stops          // the spool fails: the host refuses everything from then on, and ends
	stopsSoon      // the same, once a goroutine beside the committer has reported it
	stopsLate      // the spool fails while the host stops, which may end with no error
	closesNot      // it ends with the error, when all was done
	harmless       // it goes on
)

// An eioKind is a kind of fault and what follows from it.
type eioKind struct {
	fault
	fate
	aim aim
}

// times returns how often a fault is to be met. That a message is lost with what a
// sync should have made durable shows only if that is the sync of a message.
func (k eioKind) times(long bool) int {
	switch {
	case !long:
		return 1
	case k.fault == fault{"working", "fdatasync", "segment"}:
		return boltspool.Tries(5)
	case k.fate == stops:
		return boltspool.Tries(2)
	}
	return 1
}

// An aim is the work by which a fault is to be met.
type aim int

const (
	atFirst   aim = iota // a host makes the spool
	atRestart            // a host opens what another that was killed has left
	atWork               // a host works
	atBig                // a host works, mostly on large bodies
	atStop               // a host is told to end, after a little work
	byChance             // none: what else fails by the same call decides, or how far an index has grown
)

// eioKinds are all that a host does to its files but for opening and reading
// them. Opening fails before it has lost anything; what the committer waits for
// fails at once; what nothing depends on must not fail anything.
var eioKinds = []eioKind{
	// A new spool: its directories, its first index, and FORMAT at last.
	{fault{"opening", "fsync", "parent/"}, opensNot, atFirst},
	{fault{"opening", "fsync", "spool/"}, opensNot, atFirst},
	{fault{"opening", "fsync", "seg/"}, opensNot, atFirst},
	{fault{"opening", "fsync", "big/"}, opensNot, atFirst},
	{fault{"opening", "mkdirat", "spool/"}, opensNot, atFirst},
	{fault{"opening", "mkdirat", "seg/"}, opensNot, atFirst},
	{fault{"opening", "mkdirat", "big/"}, opensNot, atFirst},
	{fault{"opening", "pwrite64", "index.db.tmp"}, opensNot, atFirst},
	{fault{"opening", "fdatasync", "index.db.tmp"}, opensNot, atFirst},
	{fault{"opening", "ftruncate", "index.db.tmp"}, opensNot, atFirst},
	{fault{"opening", "fsync", "index.db.tmp"}, opensNot, atFirst},
	{fault{"opening", "renameat", "index.db.tmp to index.db"}, opensNot, atFirst},
	{fault{"opening", "pwrite64", "FORMAT.tmp"}, opensNot, atFirst},
	{fault{"opening", "fsync", "FORMAT.tmp"}, opensNot, atFirst},
	{fault{"opening", "renameat", "FORMAT.tmp to FORMAT"}, opensNot, atFirst},

	// A spool whose host was killed: its directories, the end of the log, what was
	// interrupted, a checkpoint, and what nothing refers to.
	{fault{"opening", "fsync", "spool/"}, opensNot, atRestart},
	{fault{"opening", "fsync", "big/"}, opensNot, atRestart},
	{fault{"opening", "fsync", "seg/"}, opensNot, atRestart},
	{fault{"opening", "ftruncate", "segment"}, opensNot, atRestart},
	{fault{"opening", "fsync", "segment"}, opensNot, atRestart},
	{fault{"opening", "fallocate", "segment"}, opensNot, atRestart},
	{fault{"opening", "pwritev", "segment"}, opensNot, atRestart},
	{fault{"opening", "fdatasync", "segment"}, opensNot, atRestart},
	{fault{"opening", "fallocate", "index.db"}, opensNot, atRestart},
	{fault{"opening", "fsync", "index.db"}, opensNot, atRestart},
	{fault{"opening", "pwrite64", "index.db"}, opensNot, atRestart},
	{fault{"opening", "fdatasync", "index.db"}, opensNot, atRestart},
	{fault{"opening", "pwrite64", "running"}, harmless, atRestart},
	{fault{"opening", "ftruncate", "LOCK"}, harmless, atRestart},
	{fault{"opening", "pwrite64", "LOCK"}, harmless, atRestart},
	{fault{"opening", "unlinkat", "staged body"}, harmless, atRestart},

	// The log.
	{fault{"working", "pwritev", "segment"}, stops, atWork},
	{fault{"working", "pwritev", "zeros ahead in a segment"}, harmless, byChance},
	{fault{"working", "fdatasync", "segment"}, stops, atWork},
	{fault{"working", "fallocate", "segment"}, stops, atWork},
	{fault{"working", "pwrite64", "segment"}, stops, atWork},
	{fault{"working", "renameat", "spare to segment"}, stops, atWork},
	{fault{"working", "fsync", "seg/"}, stops, atWork},
	{fault{"working", "fallocate", "spare"}, stopsSoon, atWork},
	{fault{"working", "fsync", "spare"}, stopsSoon, atWork},
	{fault{"working", "renameat", "segment to spare"}, harmless, atWork},
	{fault{"working", "ftruncate", "segment"}, harmless, atWork},
	{fault{"working", "unlinkat", "segment"}, harmless, atWork},
	{fault{"working", "pwrite64", "running"}, harmless, atWork},

	// Checkpoints.
	{fault{"working", "fallocate", "index.db"}, stopsSoon, byChance},
	{fault{"working", "fsync", "index.db"}, stopsSoon, byChance},
	{fault{"working", "pwrite64", "index.db"}, stopsSoon, atWork},
	{fault{"working", "fdatasync", "index.db"}, stopsSoon, atWork},
	{fault{"stopping", "fallocate", "index.db"}, closesNot, byChance},
	{fault{"stopping", "fsync", "index.db"}, closesNot, byChance},
	{fault{"stopping", "pwrite64", "index.db"}, closesNot, atStop},
	{fault{"stopping", "fdatasync", "index.db"}, closesNot, atStop},
	{fault{"stopping", "ftruncate", "running"}, closesNot, atStop},

	// Large bodies.
	{fault{"working", "pwrite64", "staged body"}, stopsSoon, atBig},
	{fault{"working", "fsync", "staged body"}, stopsSoon, atBig},
	{fault{"working", "mkdirat", "big/xx/"}, stopsSoon, atBig},
	{fault{"working", "fsync", "big/"}, stopsSoon, atBig},
	{fault{"working", "renameat", "staged body to body"}, stopsSoon, atBig},
	{fault{"working", "fsync", "big/xx/"}, stopsSoon, atBig},
	{fault{"working", "unlinkat", "body"}, harmless, atBig},
}

// is reports whether f is of a kind.
func (f fault) is(kind fault) bool {
	return f.during == kind.during && f.file == kind.file && (f.call == kind.call || f.call == "sync" && kind.isSync())
}

// isSync reports whether a hook of the spool's syncs meets f. bbolt's own syncs it
// does not.
func (f fault) isSync() bool {
	return (f.call == "fsync" || f.call == "fdatasync") && f.file != "index.db.tmp" && f != fault{f.during, "fdatasync", "index.db"}
}

// paths returns the files by which strace finds f in a spool in dir.
func (f fault) paths(dir string) []string {
	if _, to, ok := strings.Cut(f.file, " to "); ok {
		return filesOf(dir, to)
	}
	return filesOf(dir, f.file)
}

// fateOf returns what a fault makes of a host. What is removed is not needed,
// whichever file it is, but for what is in the way.
func fateOf(f fault) fate {
	switch {
	case f.call == "unlinkat" && f.file == "index.db.tmp", f == fault{"opening", "unlinkat", "segment"}:
		return opensNot
	case f.call == "unlinkat":
		return harmless
	}
	for _, k := range eioKinds {
		if f.is(k.fault) {
			return k.fate
		}
	}
	return unknown
}
