package boltspool

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

func FuzzParseTable(f *testing.F) {
	f.Add(appendTable(nil, []uint32{1, 2}, blockSize+1), int64(blockSize+1))
	f.Add(appendTable(nil, nil, 0), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 || size > 1<<30 {
			return // who calls it has checked that
		}
		sum := uint32(0)
		if len(b) >= bigTrailer {
			sum = seglog.Checksum(b[:len(b)-bigTrailer])
		}
		sums, err := parseTable(b, size, sum)
		if err == nil && !bytes.Equal(appendTable(nil, sums, size), b) {
			t.Errorf("%x became %d checksums", b, len(sums))
		}
	})
}

// FuzzTableBehind reads what a file says of the body in it.
func FuzzTableBehind(f *testing.F) {
	f.Add(appendTable([]byte("body"), []uint32{seglog.Checksum([]byte("body"))}, 4))
	f.Add(appendTable(nil, nil, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := vfs.OS{}.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		body, err := tableBehind(file)
		if err == nil && (!body.File || body.Size+4*blocks(body.Size)+bigTrailer != int64(len(b))) {
			t.Errorf("%x became %+v", b, body)
		}
	})
}

func FuzzParseMarks(f *testing.F) {
	a, b := spool.NewID(), spool.NewID()
	f.Add(append(append(append([]byte{}, a[:]...), b[:]...), make([]byte, 20)...))
	f.Add(append(append(append(make([]byte, 32), a[:]...), b[:]...), a[:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		seen := map[spool.ID]bool{}
		for _, id := range parseMarks(b).ids {
			if id.IsZero() || seen[id] || !bytes.Contains(b, id[:]) {
				t.Errorf("marks %x hold %s", b, id)
			}
			seen[id] = true
		}
	})
}

func FuzzParseFormat(f *testing.F) {
	f.Add(formatText(spool.NewID()))
	f.Add(formatPrefix + "3\n")
	f.Add(formatPrefix + "2" + formatID + "xyz\n")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := parseFormat("dir", text); err == nil && len(text) < len(formatText(id))-1 {
			t.Errorf("%q passed for the format of spool %s", text, id)
		}
	})
}

func FuzzDamageText(f *testing.F) {
	f.Add([]byte(`{"ID":"019f3b5142f377b6976155a4ec8f10fd","Segments":[1,2],"Text":"x"}`))
	f.Add([]byte(`{`))
	s := newTest(f, nil)
	f.Fuzz(func(t *testing.T, text []byte) {
		before := len(s.mu.damaged) + len(s.mu.regions)
		s.loadDamage(text)
		if after := len(s.mu.damaged) + len(s.mu.regions); after < before {
			t.Errorf("a note %q took damage away", text)
		}
	})
}
