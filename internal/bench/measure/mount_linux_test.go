package measure

import "testing"

func TestFileSystem(t *testing.T) {
	if name, err := FileSystem("/proc/self"); name != "proc" || err != nil {
		t.Errorf("/proc lies on %q, %v", name, err)
	}
	if name, err := FileSystem(t.TempDir()); name == "" || err != nil {
		t.Errorf("a directory lies on %q, %v", name, err)
	}
	if name, err := FileSystem("/does/not/exist"); err == nil {
		t.Errorf("what is not there lies on %q", name)
	}
	if Installed() < 1<<20 {
		t.Errorf("%d bytes of memory", Installed())
	}
}
