package measure

import (
	"fmt"
	"strconv"
	"strings"
)

// A Device is the disk that a directory lies on.
type Device struct {
	Name string // such as sda
	stat string // the file with its counters
}

// A Traffic is what a device was sent since the system began, by whomever. What
// is not known is 0.
type Traffic struct {
	Written uint64 // bytes
	Flushes uint64 // of its write cache; known from Linux 5.5 on
}

// sector is the unit of the counters, whatever the disk's own is.
const sector = 512

// parseTraffic reads /sys/block/NAME/stat (Documentation/block/stat.rst of
// Linux): the 7th number is the sectors written, the 16th, if it is there, the
// flushes.
func parseTraffic(data []byte) (Traffic, error) {
	fields := strings.Fields(string(data))
	if len(fields) < 11 {
		return Traffic{}, fmt.Errorf("bench: %q are not the counters of a disk", data)
	}
	var t Traffic
	var err error
	if t.Written, err = strconv.ParseUint(fields[6], 10, 64); err != nil {
		return Traffic{}, fmt.Errorf("bench: the counters of a disk: %w", err)
	}
	t.Written *= sector
	if len(fields) < 17 {
		return t, nil
	}
	if t.Flushes, err = strconv.ParseUint(fields[15], 10, 64); err != nil {
		return Traffic{}, fmt.Errorf("bench: the counters of a disk: %w", err)
	}
	return t, nil
}
