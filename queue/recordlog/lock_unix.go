//go:build unix && !solaris && !aix

package recordlog

import (
	"os"
	"syscall"
)

// lock reports whether nobody else has locked f, and keeps others from it until f is
// closed or the process has ended.
func lock(f *os.File) bool { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil }
