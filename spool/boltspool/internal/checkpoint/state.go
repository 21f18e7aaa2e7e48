package checkpoint

import (
	"encoding/binary"
	"fmt"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// A State is what a checkpoint says beside what it says of the entries.
type State struct {
	Spool   spool.ID     // the name of the spool
	Place   seglog.Place // where the log goes on
	Number  uint64       // of the group that stands there
	Opening spool.ID     // whose interruptions were counted last
	Entries uint64
}

const stateSize = 16 + 8 + 8 + 16 + 8

func (s *State) append(b []byte) []byte {
	b = append(b, s.Spool[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Place))
	b = binary.LittleEndian.AppendUint64(b, s.Number)
	b = append(b, s.Opening[:]...)
	b = binary.LittleEndian.AppendUint64(b, s.Entries)
	return binary.LittleEndian.AppendUint32(b, seglog.Checksum(b))
}

func parseState(b []byte) (s State, err error) {
	if len(b) != stateSize+sumSize || seglog.Checksum(b[:stateSize]) != binary.LittleEndian.Uint32(b[stateSize:]) {
		return s, fmt.Errorf("%w: its state", ErrDamaged)
	}
	copy(s.Spool[:], b)
	s.Place = seglog.Place(binary.LittleEndian.Uint64(b[16:]))
	s.Number = binary.LittleEndian.Uint64(b[24:])
	copy(s.Opening[:], b[32:])
	s.Entries = binary.LittleEndian.Uint64(b[48:])
	return s, nil
}
