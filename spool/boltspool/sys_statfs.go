//go:build linux || darwin

package boltspool

import (
	"math"

	"golang.org/x/sys/unix"
)

func freeSpace(name string) (room, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(name, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return room{}, err
		}
		r := room{bytes: int64(st.Bavail) * int64(st.Bsize), inodes: math.MaxInt64}
		if st.Files > 0 && st.Ffree < math.MaxInt64 { // Btrfs and others make inodes as needed, and have 0 in all
			r.inodes = int64(st.Ffree)
		}
		return r, nil
	}
}
