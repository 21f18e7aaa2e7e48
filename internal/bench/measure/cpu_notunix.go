//go:build !unix

package measure

import (
	"errors"
	"time"
)

// CPU returns what this process has used, user and system together.
func CPU() (time.Duration, error) {
	return 0, errors.New("bench: measuring CPU needs getrusage, which this system has not")
}
