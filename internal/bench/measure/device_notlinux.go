//go:build !linux

package measure

import (
	"errors"
	"math"
)

var errNeedsLinux = errors.New("bench: the counters of a disk need /sys of Linux")

// DeviceOf returns an error.
func DeviceOf(string) (*Device, error) { return nil, errNeedsLinux }

// Traffic returns an error.
func (d *Device) Traffic() (Traffic, error) { return Traffic{}, errNeedsLinux }

// Free returns the largest number: nobody knows.
func Free(string) (uint64, error) { return math.MaxUint64, nil }
