package boltspool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/deferredqueue/deferredqueue/spool"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// A frameType says what a frame carries.
type frameType byte

const (
	frameBody  frameType = 1
	frameEntry frameType = 2 // reserved: written by a later format
)

const (
	frameMagic      = "DQFR"
	frameHeaderSize = 48
	segmentMagic    = "DQSEG\x00\x00\x01"
	segmentHeader   = 24
)

// A frameHeader stands in front of each payload in a segment.
type frameHeader struct {
	Type       frameType
	Generation uint64
	Length     uint64 // of the payload
	ID         spool.ID
	Sum        uint32 // CRC32C of the payload
}

// frameSeed makes a checksum depend on where the frame stands, so that what an
// earlier use of the same file or blocks left behind never passes for a frame.
func frameSeed(generation uint64, off int64) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], generation)
	binary.LittleEndian.PutUint64(b[8:], uint64(off))
	return checksum(b[:])
}

// append adds the header of the frame at off to b.
func (h frameHeader) append(b []byte, off int64) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = append(b, byte(h.Type), 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.Generation)
	b = binary.LittleEndian.AppendUint64(b, h.Length)
	b = append(b, h.ID[:]...)
	b = binary.LittleEndian.AppendUint32(b, h.Sum)
	sum := crc32.Update(frameSeed(h.Generation, off), castagnoli, b[start:])
	return binary.LittleEndian.AppendUint32(b, sum)
}

// parseFrame reads the header that append wrote for the frame at off.
func parseFrame(b []byte, generation uint64, off int64) (h frameHeader, err error) {
	if len(b) < frameHeaderSize {
		return h, fmt.Errorf("frame header has %d bytes instead of %d", len(b), frameHeaderSize)
	}
	b = b[:frameHeaderSize]
	if string(b[:4]) != frameMagic {
		return h, errors.New("no frame begins there")
	}
	body := b[:frameHeaderSize-4]
	sum := crc32.Update(frameSeed(generation, off), castagnoli, body)
	if sum != binary.LittleEndian.Uint32(b[frameHeaderSize-4:]) {
		return h, errors.New("wrong checksum of the frame header")
	}
	h.Type = frameType(b[4])
	h.Generation = binary.LittleEndian.Uint64(b[8:])
	h.Length = binary.LittleEndian.Uint64(b[16:])
	copy(h.ID[:], b[24:])
	h.Sum = binary.LittleEndian.Uint32(b[40:])
	if h.Generation != generation {
		return h, fmt.Errorf("frame of generation %d in a segment of generation %d", h.Generation, generation)
	}
	return h, nil
}

// appendSegmentHeader adds the first bytes of a segment to b.
func appendSegmentHeader(b []byte, generation uint64) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint64(b, generation)
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

// parseSegmentHeader returns the generation of a segment.
func parseSegmentHeader(b []byte) (generation uint64, err error) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic {
		return 0, errors.New("not a segment of format 1")
	}
	if checksum(b[:segmentHeader-4]) != binary.LittleEndian.Uint32(b[segmentHeader-4:]) {
		return 0, errors.New("wrong checksum of the segment header")
	}
	return binary.LittleEndian.Uint64(b[8:]), nil
}
