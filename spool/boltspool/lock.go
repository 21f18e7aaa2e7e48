package boltspool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrInUse says that another process, or another Spool of this one, has the
// directory open. The error that is wrapped around it names the process, if it is
// known.
var ErrInUse = errors.New("in use")

var errLocked = errors.New("locked by another")

const lockPoll = 10 * time.Millisecond

// lockDir takes the lock of the directory and writes the process ID into it, or
// shares it with others who only read. The lock ends with the file that is
// returned, or with the process. A directory that cannot be written, and has no
// lock, is not locked for reading: nobody can have it open otherwise.
func lockDir(dir string, readOnly bool, timeout time.Duration) (*os.File, error) {
	flag := os.O_CREATE | os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), flag, 0o600)
	if readOnly && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("boltspool: %w", err)
	}
	deadline := time.Now().Add(timeout)
	for {
		err = tryLock(f, readOnly)
		if !errors.Is(err, errLocked) || !time.Now().Before(deadline) {
			break
		}
		time.Sleep(lockPoll) // flock knows no timeout
	}
	if errors.Is(err, errLocked) {
		err = fmt.Errorf("boltspool: %s is %w by %s: one process at a time can open a spool", dir, ErrInUse, lockHolder(f, readOnly))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if readOnly {
		return f, nil
	}
	// The process ID is a help for people: a disk that is full may lack it.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, nil
}

// lockHolder names the process that wrote itself into the lock file, unless those
// have the lock who only read, and write nothing.
func lockHolder(f *os.File, readOnly bool) string {
	if !readOnly && tryLock(f, true) == nil {
		return "another process that looks at it (Options.ReadOnly)"
	}
	b, _ := io.ReadAll(io.LimitReader(f, 32))
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}
