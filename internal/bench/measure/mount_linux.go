package measure

import (
	"fmt"
	"os"
	"path/filepath"
)

// FileSystem returns the type of what dir lies on, such as ext4 or tmpfs.
func FileSystem(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", fmt.Errorf("bench: %s: %w", dir, err)
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("bench: the file system of %s: %w", dir, err)
	}
	if name := findMount(data, path); name != "" {
		return name, nil
	}
	return "", fmt.Errorf("bench: the file system of %s is not mounted where it can be seen", dir)
}

// Installed returns how many bytes of memory the machine has; 0 if it is not known.
func Installed() uint64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for name, n := range numbers(data) {
		if name == "MemTotal" {
			return n << 10
		}
	}
	return 0
}
