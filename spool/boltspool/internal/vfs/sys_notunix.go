//go:build !unix

package vfs

import (
	"errors"
	"math"
)

var errQuota = errors.New("quota exceeded")

// syncDir has no equivalent here.
func syncDir(string) error { return nil }

// freeSpace is not known here: only a failed write says that the disk is full.
func freeSpace(string) (Room, error) { return Room{math.MaxInt64, math.MaxInt64}, nil }
