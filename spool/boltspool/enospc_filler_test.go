package boltspool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A filler is another program, which takes all that is free of a file system, and
// goes on to take what becomes free.
type filler struct {
	t    *testing.T
	dir  string
	full chan struct{} // closed when nothing was left for the first time
	stop chan struct{}
	done chan struct{}
}

// fillDisk starts to fill a file system: its space, or its inodes.
func fillDisk(t *testing.T, disk string, inodes bool) *filler {
	t.Helper()
	f := &filler{
		t: t, dir: filepath.Join(disk, "other"),
		full: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(f.dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	n := 0
	take := func() error {
		_, err := file.Write(block)
		if errors.Is(err, syscall.ENOSPC) { // a smaller one may still find room
			_, err = file.Write(block[:4<<10])
		}
		return err
	}
	if inodes {
		take = func() error {
			n++
			return os.WriteFile(filepath.Join(f.dir, fmt.Sprint(n)), nil, 0o600)
		}
	}
	go func() {
		defer close(f.done)
		defer file.Close()
		f.run(take)
	}()
	t.Cleanup(f.free)
	return f
}

func (f *filler) run(take func() error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for first := true; ; {
		err := take()
		for err == nil {
			err = take()
		}
		if !errors.Is(err, syscall.ENOSPC) {
			f.t.Errorf("filling the disk: %v", err)
			return
		}
		if first {
			close(f.full)
			first = false
		}
		select {
		case <-tick.C:
		case <-f.stop:
			return
		}
	}
}

// free gives everything back.
func (f *filler) free() {
	select {
	case <-f.stop:
		return
	default:
	}
	close(f.stop)
	<-f.done
	if err := os.RemoveAll(f.dir); err != nil {
		f.t.Error(err)
	}
}
