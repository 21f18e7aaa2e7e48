package boltspool

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool"
)

func fullEntry() *spool.Entry {
	return &spool.Entry{
		ID: spool.NewID(), Body: spool.NewID(), Queue: "c:t@example.com", Class: "tenant", State: spool.Final,
		Due:      time.Date(2026, 7, 8, 9, 10, 11, 123456789, time.UTC),
		Received: time.Date(1969, 12, 31, 23, 59, 59, 1, time.UTC),
		Expires:  time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		Attempts: 7, Interrupted: 2,
		Envelope: spool.Envelope{
			Sender: "jürgen@example.com", SMTPUTF8: true, RequireTLS: true, Body: "8BITMIME", Ret: "HDRS", EnvID: "env id",
			Recipients: []spool.Recipient{
				{Address: "a@example.net", Notify: []string{"SUCCESS", "FAILURE"}, ORcpt: "rfc822;x@example.org"},
				{Address: "b@example.net", Notify: []string{}},
				{},
			},
		},
		Meta:   map[string]string{"queue": "q", "": "", "key": "välue\x00"},
		Header: []byte("Received: x\r\n"), Skip: 12, Size: 4711,
		LastError: "451 4.4.5 later", Outcome: []byte(`{"type":"Bounce"}`), Rev: math.MaxUint64 - 1,
	}
}

func encode(e *spool.Entry) []byte {
	rec := appendRecord(nil, e)
	sealRecord(rec, e.ID, e.Rev, e.Size)
	return rec
}

func TestRecordRoundTrip(t *testing.T) {
	empty := fullEntry()
	empty.Meta, empty.Header, empty.Outcome = map[string]string{}, []byte{}, []byte{}
	empty.Envelope.Recipients = []spool.Recipient{}
	for name, e := range map[string]*spool.Entry{
		"full":  fullEntry(),
		"zero":  {ID: spool.NewID()},
		"empty": empty,
	} {
		t.Run(name, func(t *testing.T) {
			rec := encode(e)
			got, err := parseRecord(rec, e.ID[:])
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, e) {
				t.Errorf("got  %+v\nwant %+v", got, e)
			}
			b, err := parseBrief(rec, e.ID[:])
			if err != nil {
				t.Fatal(err)
			}
			if string(b.queue) != e.Queue || string(b.class) != e.Class || b.state != e.State || b.rev != e.Rev ||
				b.size != e.Size || b.body != e.Body || b.skip != e.Skip || b.header != int64(len(e.Header)) {
				t.Errorf("the beginning of the record says %+v, want %+v", b, e)
			}
		})
	}
}

// TestRecordDamage flips every bit and cuts at every byte.
func TestRecordDamage(t *testing.T) {
	e := fullEntry()
	rec := encode(e)
	for i := range 8 * len(rec) {
		bad := bytes.Clone(rec)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := parseRecord(bad, e.ID[:]); err == nil {
			t.Fatalf("bit %d flipped: no error", i)
		}
	}
	for n := range rec {
		if _, err := parseRecord(rec[:n], e.ID[:]); err == nil {
			t.Fatalf("cut to %d bytes: no error", n)
		}
	}
	other := spool.NewID()
	if _, err := parseRecord(rec, other[:]); err == nil {
		t.Error("the record of another entry: no error")
	}
}

func TestInstant(t *testing.T) {
	for _, test := range []struct {
		t    time.Time
		want int64
	}{
		{time.Time{}, math.MinInt64},
		{time.Unix(0, 0), 0},
		{time.Unix(1, 5), 1e9 + 5},
		{time.Unix(-1, 5), -1e9 + 5},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), never - 1},
	} {
		if got := instant(test.t); got != test.want {
			t.Errorf("instant(%v) is %d, want %d", test.t, got, test.want)
		}
	}
	if fromInstant(math.MinInt64).IsZero() {
		t.Error("the earliest instant became the zero time, which says that there is none")
	}
}

func TestFrame(t *testing.T) {
	h := frameHeader{Type: frameBody, Generation: 3, Length: 5, ID: spool.NewID(), Sum: 9}
	b := h.append(nil, 1000)
	if got, err := parseFrame(b, 3, 1000); err != nil || got != h {
		t.Errorf("got %+v and error %v, want %+v", got, err, h)
	}
	if _, err := parseFrame(b, 3, 1001); err == nil {
		t.Error("a frame at another offset passed")
	}
	if _, err := parseFrame(b, 4, 1000); err == nil {
		t.Error("a frame of another generation passed")
	}
	for i := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := parseFrame(bad, 3, 1000); err == nil {
			t.Errorf("bit %d flipped: no error", i)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	e := fullEntry()
	f.Add(encode(e))
	f.Add(encode(&spool.Entry{ID: e.ID}))
	f.Fuzz(func(t *testing.T, rec []byte) {
		if len(rec) >= recordFixed+recordSum { // beyond the checksum, to the fields
			rec = bytes.Clone(rec)
			sealRecord(rec, e.ID, 1, 1)
		}
		got, err := parseRecord(rec, e.ID[:])
		if err != nil {
			return
		}
		again, err := parseRecord(encode(got), e.ID[:])
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("got %+v, and after encoding it again %+v and error %v", got, again, err)
		}
		if b, err := parseBrief(rec, e.ID[:]); err == nil && (string(b.queue) != got.Queue || b.bodySize() < 0) {
			t.Errorf("got %+v, but its beginning says %+v", got, b)
		}
	})
}

func FuzzParseBodyRecord(f *testing.F) {
	id := spool.NewID()
	f.Add(bodyRecord{kind: inSegment, refs: 2, size: 100, segment: 7, off: 24, sum: 5}.append(nil, id))
	f.Add(bodyRecord{kind: inFile, refs: 1, size: 1 << 30, sum: 5}.append(nil, id))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseBodyRecord(b, id[:])
		if err == nil && !bytes.Equal(r.append(nil, id), b) && bytes.Equal(b[34:38], make([]byte, 4)) {
			t.Errorf("%x became %+v", b, r)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	f.Add(frameHeader{Type: frameBody, Generation: 3, Length: 5, ID: spool.NewID(), Sum: 9}.append(nil, 24))
	f.Add(appendSegmentHeader(nil, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseFrame(b, 3, 24); err == nil && h.Generation != 3 {
			t.Errorf("a frame of generation %d passed for one of 3", h.Generation)
		}
		if g, err := parseSegmentHeader(b); err == nil && !bytes.Equal(appendSegmentHeader(nil, g)[:16], b[:16]) {
			t.Errorf("%x passed for the header of generation %d", b, g)
		}
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add(appendTable(nil, []uint32{1, 2}, blockSize+1), int64(blockSize+1))
	f.Add(appendTable(nil, nil, 0), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 || size > 1<<30 {
			return // the index has checked that
		}
		sum := uint32(0)
		if len(b) >= bigTrailer {
			sum = checksum(b[:len(b)-bigTrailer])
		}
		sums, err := parseTable(b, size, sum)
		if err == nil && !bytes.Equal(appendTable(nil, sums, size), b) {
			t.Errorf("%x became %d checksums", b, len(sums))
		}
	})
}

func FuzzParseMarks(f *testing.F) {
	a, b := spool.NewID(), spool.NewID()
	f.Add(append(append(append([]byte{}, a[:]...), b[:]...), make([]byte, 20)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, ids := parseMarks(b)
		seen := map[spool.ID]bool{}
		for _, id := range ids {
			if id.IsZero() || seen[id] || !bytes.Contains(b, id[:]) {
				t.Errorf("marks %x hold %s", b, id)
			}
			seen[id] = true
		}
	})
}

func FuzzCheckFormat(f *testing.F) {
	f.Add(formatText())
	f.Add(formatPrefix + "2\n")
	f.Fuzz(func(t *testing.T, text string) {
		if checkFormat("dir", text) == nil && !strings.HasPrefix(text, formatPrefix) {
			t.Errorf("%q passed for the format of a spool", text)
		}
	})
}

func FuzzSegmentName(f *testing.F) {
	f.Add(segmentName(17))
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := parseSegmentName(name); ok && segmentName(n) != name {
			t.Errorf("%q passed for the name of segment %d", name, n)
		}
	})
}

// FuzzVerifyPages changes bytes of an index file: what passes must not take
// bbolt down.
func FuzzVerifyPages(f *testing.F) {
	image := indexImage(f)
	for _, at := range []uint32{8, 16, 4096 * 2, 4096*3 + 8, 4096*3 + 10, 4096*4 + 16} {
		f.Add(at, byte(0xff), at+1, byte(1))
	}
	f.Fuzz(func(t *testing.T, at1 uint32, x1 byte, at2 uint32, x2 byte) {
		b := bytes.Clone(image)
		b[int(at1)%len(b)] ^= x1
		b[int(at2)%len(b)] ^= x2
		if walkPages(bytes.NewReader(b), int64(len(b))) != nil {
			return
		}
		readIndex(t, b)
	})
}

// TestVerifyPages flips bits of all pages of an index, and cuts it.
func TestVerifyPages(t *testing.T) {
	image := indexImage(t)
	refused := 0
	for at := 0; at < len(image); at += 4096/64 - 1 {
		b := bytes.Clone(image)
		b[at] ^= 0x11
		if walkPages(bytes.NewReader(b), int64(len(b))) != nil {
			refused++
			continue
		}
		readIndex(t, b)
	}
	if refused == 0 {
		t.Error("no damage was found")
	}
	for n := 0; n < len(image); n += 4096 {
		if walkPages(bytes.NewReader(image[:n]), int64(n)) == nil {
			t.Errorf("an index cut to %d of %d bytes passed", n, len(image))
		}
	}
}

// indexImage returns an index with pages of all kinds.
func indexImage(t testing.TB) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "index.db")
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{NoFreelistSync: true, PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(bucketEntries)
		for i := 0; i < 120 && err == nil; i++ {
			e := fullEntry()
			if i == 60 {
				e.Outcome = make([]byte, 9000)
			}
			err = b.Put(e.ID[:], encode(e))
		}
		if err == nil {
			_, err = tx.CreateBucket(bucketMeta)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var used int64
	db.View(func(tx *bbolt.Tx) error {
		used = tx.Size()
		return nil
	})
	db.Close()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b[:used]
}

// readIndex reads an index that passed, all of it.
func readIndex(t *testing.T, image []byte) {
	t.Helper()
	name := filepath.Join(fastDir(t), "index.db")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	func() {
		defer recoverIndex(&err)()
		var db *bbolt.DB
		if db, err = bbolt.Open(name, 0o600, &bbolt.Options{NoFreelistSync: true}); err != nil {
			return
		}
		defer db.Close()
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					parseRecord(v, k) // damage in a value is for its checksum
					return nil
				})
			})
		})
	}()
	if err != nil {
		t.Errorf("the index passed, but: %v", err)
	}
}
