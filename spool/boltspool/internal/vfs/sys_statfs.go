//go:build linux || darwin

package vfs

import (
	"math"

	"golang.org/x/sys/unix"
)

func freeSpace(name string) (Room, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(name, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Room{}, err
		}
		r := Room{Bytes: int64(st.Bavail) * int64(st.Bsize), Inodes: math.MaxInt64}
		if st.Files > 0 && st.Ffree < math.MaxInt64 { // Btrfs and others make inodes as needed, and have 0 in all
			r.Inodes = int64(st.Ffree)
		}
		return r, nil
	}
}
