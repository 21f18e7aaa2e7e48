//go:build !linux

package smtpserver

import (
	"syscall"
	"testing"
	"time"
)

// usage is measured on Linux alone.
func usage() (rss int64, cpu time.Duration, err error) { return 0, 0, nil }

// mayOpen leaves the limit of open files as it is.
func mayOpen(t *testing.T, n int) int { return n }

// smallBuffers leaves them as they are.
func smallBuffers(_, _ string, _ syscall.RawConn) error { return nil }
