//go:build !unix

package boltspool

import (
	"errors"
	"math"
	"os"
)

var errQuota = errors.New("quota exceeded")

// syncDir has no equivalent here.
func syncDir(string) error { return nil }

// tryLock leaves it to the lock that bbolt takes on the index.
func tryLock(*os.File) error { return nil }

// freeSpace is not known here: only a failed write says that the disk is full.
func freeSpace(string) (room, error) { return room{math.MaxInt64, math.MaxInt64}, nil }
