package measure

import (
	"os"
	"testing"
)

// TestOwn looks at this process.
func TestOwn(t *testing.T) {
	if _, err := os.ReadFile("/proc/self/io"); err != nil {
		t.Fatal(err)
	}
	if io := OwnIO(); io.Reads == 0 {
		t.Errorf("after a read: %+v", io)
	}
	if m := OwnMemory(); m.Anon == 0 || m.File == 0 {
		t.Errorf("a process without memory: %+v", m)
	}
}
