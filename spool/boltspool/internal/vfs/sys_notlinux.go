//go:build !linux

package vfs

import (
	"errors"
	"os"
)

func writeVAt(f *os.File, bufs [][]byte, off int64) (n int64, err error) {
	for _, b := range bufs {
		k, err := f.WriteAt(b, off+n)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func datasync(f *os.File) error { return f.Sync() }

func fill(*os.File, int64, int64) error { return errors.ErrUnsupported }

func allocate(*os.File, int64) error { return errors.ErrUnsupported }
