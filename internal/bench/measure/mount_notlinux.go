//go:build !linux

package measure

import "errors"

// FileSystem returns an error.
func FileSystem(string) (string, error) {
	return "", errors.New("bench: the type of a file system needs /proc of Linux")
}

// Installed returns 0: nobody knows.
func Installed() uint64 { return 0 }
