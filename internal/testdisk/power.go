package testdisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A Power is an ext4 file system whose power can be cut: an image of what it has
// written to its device is what it is after the cut. The device is a file on an
// XFS file system, which copies files at once by sharing their blocks, and that
// lies in memory. The order in which a real device writes what was not flushed
// is not modelled.
type Power struct {
	// Dir is where the file system is mounted.
	Dir string

	m      *mounts
	images string // the directory of the device, and of the copies
	cuts   int
}

// AvailablePower says what NewPower would need that is not there: what Available
// says, and the programs mkfs.xfs and cp.
func AvailablePower() error {
	if err := Available(); err != nil {
		return errors.Join(err, missing(powerTools))
	}
	return missing(powerTools)
}

// NewPower makes such a file system of that many MiB, which is mounted until t
// ends: every file in it must be closed by then. It takes up to about three
// times its size of memory. An error names what is missing.
func NewPower(t testing.TB, mib int64) (*Power, error) {
	t.Helper()
	if err := AvailablePower(); err != nil {
		return nil, err
	}
	m, err := newMounts(t)
	if err != nil {
		return nil, err
	}
	p := &Power{Dir: filepath.Join(m.base, "mnt"), m: m, images: filepath.Join(m.base, "images")}
	ram := filepath.Join(m.base, "ram")
	if err := m.mount(ram, "-t", "tmpfs", "-o", "mode=0700", "tmpfs"); err != nil {
		return nil, err
	}
	xfs := filepath.Join(ram, "xfs")
	if err := makeImage(xfs, (2*mib+512)<<20); err != nil {
		return nil, err
	}
	if err := run("mkfs.xfs", "-q", "-m", "reflink=1", xfs); err != nil {
		return nil, err
	}
	if err := m.mount(p.images, "-o", "loop", xfs); err != nil {
		return nil, err
	}
	if err := makeExt4(p.device(), mib, "-E", "lazy_itable_init=0,lazy_journal_init=0"); err != nil {
		return nil, err
	}
	return p, m.mount(p.Dir, "-o", "loop", p.device())
}

func (p *Power) device() string { return filepath.Join(p.images, "ext4") }

// Cut returns what the file system would be if its power were cut now. The file
// system itself goes on. Cut is not safe for concurrent use.
func (p *Power) Cut() (*Image, error) {
	p.cuts++
	i := &Image{p: p, file: filepath.Join(p.images, fmt.Sprintf("cut-%d", p.cuts))}
	return i, run("cp", "--reflink=always", p.device(), i.file)
}

// An Image is what a power cut has left.
type Image struct {
	p         *Power
	file, dir string
}

// Mount mounts the file system, which recovers it as after a power cut, and
// returns the directory.
func (i *Image) Mount() (dir string, err error) {
	dir = filepath.Join(i.p.m.base, filepath.Base(i.file))
	if err := i.p.m.mount(dir, "-o", "loop", i.file); err != nil {
		return "", err
	}
	i.dir = dir
	return dir, nil
}

// Close unmounts and deletes it. Every file in it must be closed.
func (i *Image) Close() error {
	var errs []error
	if i.dir != "" {
		errs = append(errs, i.p.m.unmount(i.dir), os.Remove(i.dir))
	}
	return errors.Join(append(errs, os.Remove(i.file))...)
}
