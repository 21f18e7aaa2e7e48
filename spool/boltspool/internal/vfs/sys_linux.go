package vfs

import (
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxBuffers is IOV_MAX: how many buffers one call can write.
const maxBuffers = 1024

// writeVAt is pwritev, repeated until all is written.
func writeVAt(f *os.File, bufs [][]byte, off int64) (written int64, err error) {
	for bufs = skip(bufs, 0); len(bufs) > 0; {
		n, err := unix.Pwritev(int(f.Fd()), bufs[:min(len(bufs), maxBuffers)], off+written)
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
