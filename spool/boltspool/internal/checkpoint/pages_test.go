package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
)

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
		if bad(b) {
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
		if bad(b) {
			refused++
			continue
		}
		readIndex(t, b)
	}
	if refused == 0 {
		t.Error("no damage was found")
	}
	for n := 0; n < len(image); n += 4096 {
		if !bad(image[:n]) {
			t.Errorf("an index cut to %d of %d bytes passed", n, len(image))
		}
	}
}

// indexImage returns an index with pages of all kinds.
func indexImage(t testing.TB) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), Name)
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{NoFreelistSync: true, PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(bucketEntries)
		for i := 0; i < 120 && err == nil; i++ {
			v := saved(i)
			if i == 60 {
				v.Class = strings.Repeat("x", 9000)
			}
			err = b.Put(v.ID[:], appendSaved(nil, &v))
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
	name := filepath.Join(t.TempDir(), Name)
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	func() {
		defer recoverDamage(&err)()
		var db *bbolt.DB
		if db, err = bbolt.Open(name, 0o600, &bbolt.Options{NoFreelistSync: true}); err != nil {
			return
		}
		defer db.Close()
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					parseSaved(k, v, new(index.Saved), names{}) // damage in a value is for its checksum
					return nil
				})
			})
		})
	}()
	if err != nil {
		t.Errorf("the index passed, but: %v", err)
	}
}

func bad(image []byte) bool {
	_, err := walkPages(bytes.NewReader(image), int64(len(image)))
	return err != nil
}
