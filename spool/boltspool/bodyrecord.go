package boltspool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A bodyKind says where a body is.
type bodyKind byte

const (
	inSegment bodyKind = 1
	inFile    bodyKind = 2
)

// A bodyRecord is what the index says of a body.
type bodyRecord struct {
	kind    bodyKind
	refs    uint32 // entries that refer to it
	size    int64
	segment uint64 // inSegment: the number of the segment
	off     int64  // inSegment: where its frame begins
	sum     uint32 // CRC32C: inSegment of the body, inFile of the block table
}

const bodyRecordSize = 42

func (r bodyRecord) append(b []byte, id spool.ID) []byte {
	start := len(b)
	b = append(b, recordVersion, byte(r.kind))
	b = binary.LittleEndian.AppendUint32(b, r.refs)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.size))
	b = binary.LittleEndian.AppendUint64(b, r.segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.off))
	b = binary.LittleEndian.AppendUint32(b, r.sum)
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Update(checksum(id[:]), castagnoli, b[start:]))
}

func parseBodyRecord(b, key []byte) (r bodyRecord, err error) {
	if len(b) != bodyRecordSize || len(key) != len(spool.ID{}) {
		return r, fmt.Errorf("body record of %d bytes instead of %d", len(b), bodyRecordSize)
	}
	sum := crc32.Update(checksum(key), castagnoli, b[:bodyRecordSize-4])
	if sum != binary.LittleEndian.Uint32(b[bodyRecordSize-4:]) {
		return r, errors.New("wrong checksum of the body's index record")
	}
	if b[0] != recordVersion {
		return r, fmt.Errorf("body record of version %d: want %d", b[0], recordVersion)
	}
	r.kind = bodyKind(b[1])
	r.refs = binary.LittleEndian.Uint32(b[2:])
	r.size = int64(binary.LittleEndian.Uint64(b[6:]))
	r.segment = binary.LittleEndian.Uint64(b[14:])
	r.off = int64(binary.LittleEndian.Uint64(b[22:]))
	r.sum = binary.LittleEndian.Uint32(b[30:])
	switch {
	case r.kind != inSegment && r.kind != inFile:
		return r, fmt.Errorf("body record of the unknown kind %d", r.kind)
	case r.size < 0 || r.off < 0 || r.kind == inSegment && r.size > maxSegmentBody:
		return r, errors.New("body record with an impossible size")
	}
	return r, nil
}
