package recordlog

import (
	"encoding/json"
	"io"
	"os"
	"time"
)

// lastNames are by what the last segment of each suffix was named, which may have been
// archived since: so that names go on rising when the clock was set back before a
// restart. They stand in the lock of the directory.
type lastNames struct {
	f     *os.File
	times map[string]time.Time
}

// readNames reads them. What cannot be read is not known.
func readNames(f *os.File) *lastNames {
	n := &lastNames{f: f}
	if b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20)); err == nil {
		_ = json.Unmarshal(b, &n.times)
	}
	if n.times == nil {
		n.times = map[string]time.Time{}
	}
	return n
}

func (n *lastNames) last(suffix string) time.Time { return n.times[suffix] }

// begun notes a segment, durably.
func (n *lastNames) begun(suffix string, at time.Time) error {
	n.times[suffix] = at
	b, err := json.Marshal(n.times)
	if err != nil {
		return err
	}
	if _, err := n.f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := n.f.Truncate(int64(len(b))); err != nil {
		return err
	}
	return n.f.Sync()
}
