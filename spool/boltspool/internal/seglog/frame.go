package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/deferredqueue/deferredqueue/spool"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC32C that everything on disk has.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Update adds b to a Checksum.
func Update(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// A frameType says what a frame carries.
type frameType byte

const (
	frameBody  frameType = 1
	frameGroup frameType = 2
)

const (
	frameMagic    = "DQFR"
	frameHeader   = 48
	frameSums     = 4 // at the end of the header: its own checksum
	segmentMagic  = "DQSEG\x00\x00\x02"
	segmentHeader = 32
)

// A header stands in front of each payload in a segment.
type header struct {
	Type   frameType
	Length uint64 // of the payload
	Sum    uint32 // CRC32C of the payload

	ID spool.ID // of a body

	Number uint64 // of a group
	Total  uint64 // length of the whole group, with this header and all its bodies
}

// A seed makes the checksum of a header depend on the spool and on where the
// frame stands, so that neither what an earlier use of the file or the blocks
// left behind, nor mail that looks like a frame, ever passes for one.
type seed uint32

func newSeed(spool spool.ID) seed { return seed(Checksum(spool[:])) }

func (s seed) at(segment uint32, off int64) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], uint64(segment))
	binary.LittleEndian.PutUint64(b[8:], uint64(off))
	return Update(uint32(s), b[:])
}

// append adds the header of the frame at off of a segment to b.
func (h *header) append(b []byte, s seed, segment uint32, off int64) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = append(b, byte(h.Type), 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(segment))
	b = binary.LittleEndian.AppendUint64(b, h.Length)
	if h.Type == frameBody {
		b = append(b, h.ID[:]...)
	} else {
		b = binary.LittleEndian.AppendUint64(b, h.Number)
		b = binary.LittleEndian.AppendUint64(b, h.Total)
	}
	b = binary.LittleEndian.AppendUint32(b, h.Sum)
	return binary.LittleEndian.AppendUint32(b, Update(s.at(segment, off), b[start:]))
}

var errNoFrame = errors.New("no frame begins there")

// parseHeader reads the header that append wrote for the frame at off.
func parseHeader(b []byte, s seed, segment uint32, off int64) (h header, err error) {
	if len(b) < frameHeader || string(b[:len(frameMagic)]) != frameMagic {
		return h, errNoFrame
	}
	b = b[:frameHeader]
	le := binary.LittleEndian
	if Update(s.at(segment, off), b[:frameHeader-frameSums]) != le.Uint32(b[frameHeader-frameSums:]) {
		return h, errors.New("wrong checksum of the frame header")
	}
	h = header{Type: frameType(b[4]), Length: le.Uint64(b[16:]), Sum: le.Uint32(b[40:])}
	if h.Length > MaxOffset {
		return h, fmt.Errorf("frame of %d bytes", h.Length)
	}
	switch h.Type {
	case frameBody:
		h.ID = spool.ID(b[24:40])
	case frameGroup:
		h.Number, h.Total = le.Uint64(b[24:]), le.Uint64(b[32:])
		if h.Total < h.Length+frameHeader || h.Total > MaxOffset {
			return h, fmt.Errorf("a group of %d bytes with a frame of %d", h.Total, h.Length)
		}
	default:
		return h, fmt.Errorf("frame of the unknown type %d", h.Type)
	}
	return h, nil
}

// appendSegmentHeader adds the first bytes of a segment to b. They are for people
// and their tools: nothing but Verify reads them.
func appendSegmentHeader(b []byte, spool spool.ID, segment uint32) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segment)
	b = append(b, spool[:]...)
	return binary.LittleEndian.AppendUint32(b, Checksum(b[start:]))
}

// checkSegmentHeader says what is wrong with the first bytes of a segment.
func checkSegmentHeader(b []byte, spool spool.ID, segment uint32) error {
	switch {
	case len(b) < segmentHeader || string(b[:len(segmentMagic)]) != segmentMagic:
		return errors.New("no segment begins there")
	case Checksum(b[:segmentHeader-4]) != binary.LittleEndian.Uint32(b[segmentHeader-4:]):
		return errors.New("wrong checksum of the segment header")
	case !bytes.Equal(b[12:28], spool[:]):
		return errors.New("it is a segment of another spool")
	case binary.LittleEndian.Uint32(b[8:]) != segment:
		return fmt.Errorf("it says that it is segment %016x", binary.LittleEndian.Uint32(b[8:]))
	}
	return nil
}
