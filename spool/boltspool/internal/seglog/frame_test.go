package seglog

import (
	"bytes"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestHeader(t *testing.T) {
	id, other := spool.NewID(), spool.NewID()
	s := newSeed(id)
	for _, h := range []header{
		{Type: frameBody, Length: 5, Sum: 9, ID: spool.NewID()},
		{Type: frameGroup, Length: 5, Sum: 9, Number: 17, Total: 500},
	} {
		b := h.append(nil, s, 3, 1000)
		if len(b) != frameHeader {
			t.Fatalf("%d bytes, want %d", len(b), frameHeader)
		}
		if got, err := parseHeader(b, s, 3, 1000); err != nil || got != h {
			t.Errorf("got %+v and error %v, want %+v", got, err, h)
		}
		for name, where := range map[string]struct {
			seed    seed
			segment uint32
			off     int64
		}{"offset": {s, 3, 1001}, "segment": {s, 4, 1000}, "spool": {newSeed(other), 3, 1000}} {
			if _, err := parseHeader(b, where.seed, where.segment, where.off); err == nil {
				t.Errorf("a frame of another %s passed", name)
			}
		}
		for i := range 8 * len(b) {
			bad := bytes.Clone(b)
			bad[i/8] ^= 1 << (i % 8)
			if _, err := parseHeader(bad, s, 3, 1000); err == nil {
				t.Errorf("bit %d flipped: no error", i)
			}
		}
		for n := range b {
			if _, err := parseHeader(b[:n], s, 3, 1000); err == nil {
				t.Errorf("cut to %d bytes: no error", n)
			}
		}
	}
}

// TestHeaderImpossible: right checksums do not make a header possible.
func TestHeaderImpossible(t *testing.T) {
	var s seed
	for _, h := range []header{
		{Type: 3, Length: 5},
		{Type: frameBody, Length: MaxOffset + 1},
		{Type: frameGroup, Length: 500, Total: 500},
		{Type: frameGroup, Length: 1<<64 - 1, Total: frameHeader},
		{Type: frameGroup, Length: 5, Total: MaxOffset + 1},
	} {
		if _, err := parseHeader(h.append(nil, s, 1, 32), s, 1, 32); err == nil {
			t.Errorf("%+v passed", h)
		}
	}
}

func FuzzHeader(f *testing.F) {
	s := newSeed(spool.NewID())
	for _, h := range []header{{Type: frameBody, Length: 5, ID: spool.NewID()}, {Type: frameGroup, Length: 5, Number: 1, Total: 60}} {
		f.Add(h.append(nil, s, 3, 24))
	}
	f.Add(appendSegmentHeader(nil, spool.NewID(), 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= frameHeader { // beyond the checksum, to the fields
			b = bytes.Clone(b[:frameHeader-frameSums])
			sum := Update(s.at(3, 24), b)
			b = append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		}
		h, err := parseHeader(b, s, 3, 24)
		if err != nil {
			return
		}
		if again, err := parseHeader(h.append(nil, s, 3, 24), s, 3, 24); err != nil || again != h {
			t.Errorf("%x became %+v, and that %+v, %v", b, h, again, err)
		}
	})
}

func FuzzSegmentName(f *testing.F) {
	f.Add(SegmentName(17))
	f.Add("0000000100000000.seg")
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := parseSegmentName(name); ok && (n == 0 || SegmentName(n) != name) {
			t.Errorf("%q passed for the name of segment %d", name, n)
		}
	})
}

func TestPlace(t *testing.T) {
	p := At(7, 4000)
	if p.Segment() != 7 || p.Offset() != 4000 || p.Plus(96) != At(7, 4096) || p.Plus(-4000) != At(7, 0) {
		t.Errorf("%v is not byte 4000 of segment 7", p)
	}
	for _, later := range []Place{At(7, 4001), At(8, 0), At(7, MaxOffset)} {
		if later <= p {
			t.Errorf("%v is not behind %v", later, p)
		}
	}
	if got := At(255, MaxOffset); got.Offset() != MaxOffset || got.Segment() != 255 || got.String() != "00000000000000ff.seg, byte 4294967295" {
		t.Errorf("the last place of segment 255 is %v", got)
	}
}
