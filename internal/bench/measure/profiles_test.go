package measure

import (
	"os"
	"path/filepath"
	"testing"
)

func TestProfiles(t *testing.T) {
	dir := t.TempDir()
	p, err := StartProfiles(filepath.Join(dir, "a.pprof"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := StartProfiles(filepath.Join(dir, "second.pprof")); err == nil {
		t.Error("two at a time")
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.pprof", "a.allocs.pprof", "a.block.pprof", "a.mutex.pprof"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if p, err := StartProfiles(""); p != nil || err != nil || p.Stop() != nil {
		t.Errorf("none: %v, %v", p, err)
	}
	if _, err := StartProfiles(filepath.Join(dir, "no", "a.pprof")); err == nil {
		t.Error("in no directory")
	}
}
