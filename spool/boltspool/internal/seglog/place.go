package seglog

import (
	"fmt"
	"math"
)

// A Place is where something stands in the log: the number of a segment and an
// offset in it. What is written later has a greater Place.
type Place uint64

// MaxOffset bounds a segment.
const MaxOffset = math.MaxUint32

// Beginning is where the first group of a log stands.
const Beginning = Place(1<<32 | segmentHeader)

// At returns the Place at an offset of a segment.
func At(segment uint32, off int64) Place { return Place(segment)<<32 | Place(uint32(off)) }

// Segment returns the number of the segment, which is never 0.
func (p Place) Segment() uint32 { return uint32(p >> 32) }

// Offset returns the offset in the segment.
func (p Place) Offset() int64 { return int64(uint32(p)) }

// Plus returns the Place n bytes later in the same segment.
func (p Place) Plus(n int64) Place { return At(p.Segment(), p.Offset()+n) }

// String returns the name of the segment and the offset.
func (p Place) String() string {
	return fmt.Sprintf("%s, byte %d", SegmentName(p.Segment()), p.Offset())
}
