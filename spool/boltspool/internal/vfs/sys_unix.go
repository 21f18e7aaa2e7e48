//go:build unix

package vfs

import (
	"os"
	"syscall"
)

const errQuota = syscall.EDQUOT

// syncDir makes the entries of a directory durable.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if err2 := d.Close(); err == nil {
		err = err2
	}
	return err
}
