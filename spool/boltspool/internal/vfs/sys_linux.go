package vfs

import (
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// maxBuffers is IOV_MAX: how many buffers one call can write.
	maxBuffers = 1024
	// maxWrite is how many bytes one call writes. For more Linux looks for page
	// cache in pieces so large that, measured on 6.18 in a virtual machine, they
	// cost eight times as much as those that it has at hand.
	maxWrite = 1 << 20
)

// writeVAt is pwritev, repeated until all is written.
func writeVAt(f *os.File, bufs [][]byte, off int64) (written int64, err error) {
	var some [][]byte
	for bufs = skip(bufs, 0); len(bufs) > 0; {
		some = front(some[:0], bufs)
		n, err := unix.Pwritev(int(f.Fd()), some, off+written)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			err = io.ErrShortWrite
		}
		if err != nil {
			return written, &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		written += int64(n)
		bufs = skip(bufs, n)
	}
	return written, nil
}

// front adds what one call writes of bufs to some.
func front(some, bufs [][]byte) [][]byte {
	room := maxWrite
	for _, b := range bufs {
		if room == 0 || len(some) == maxBuffers {
			break
		}
		b = b[:min(len(b), room)]
		some = append(some, b)
		room -= len(b)
	}
	return some
}

// skip returns what of bufs is left behind the first n bytes. It does not change
// the caller's buffers.
func skip(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs = slices.Clone(bufs)
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

// zeros is what fill writes, again and again.
var zeros [64 << 10]byte

// fill is of use where a block that is written again stays where it is, and where a
// block that was only allocated is noted as written by the next sync.
func fill(f *os.File, off, n int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Type != unix.EXT4_SUPER_MAGIC && st.Type != unix.XFS_SUPER_MAGIC {
		return errors.ErrUnsupported
	}
	var bufs [][]byte
	for ; n > 0; n -= int64(len(zeros)) {
		bufs = append(bufs, zeros[:min(n, int64(len(zeros)))])
	}
	_, err := writeVAt(f, bufs, off)
	return err
}

func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

func allocate(f *os.File, size int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), 0, 0, size); err {
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS:
			return errors.ErrUnsupported
		default:
			return err
		}
	}
}
