package measure

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DeviceOf returns the disk that dir lies on: the whole of it, since partitions
// do not count flushes. A tmpfs, an overlay and the like have none.
func DeviceOf(dir string) (*Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("bench: %s: %w", dir, err)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	d, err := findDevice("/sys/dev/block", number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("bench: %s lies on no disk that can be seen (device %s)", dir, number)
	}
	return d, err
}

// findDevice follows the link of that number to the device, from there to the
// disk that it is a partition of, or to the only one that it is mapped to, and so on.
func findDevice(sys, number string) (*Device, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(sys, number))
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(filepath.Join(path, "partition")); err == nil {
			path = filepath.Dir(path)
		}
		below, err := filepath.Glob(filepath.Join(path, "slaves", "*"))
		if err != nil || len(below) != 1 {
			return &Device{filepath.Base(path), filepath.Join(path, "stat")}, err
		}
		if path, err = filepath.EvalSymlinks(below[0]); err != nil {
			return nil, err
		}
	}
}

// Traffic reads the counters.
func (d *Device) Traffic() (Traffic, error) {
	data, err := os.ReadFile(d.stat)
	if err != nil {
		return Traffic{}, fmt.Errorf("bench: the counters of %s: %w", d.Name, err)
	}
	return parseTraffic(data)
}

// Free returns how many bytes a process may still write to the file system that
// dir lies on.
func Free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("bench: the free space in %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
