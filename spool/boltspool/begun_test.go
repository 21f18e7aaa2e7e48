package boltspool

import (
	"os"
	"testing"
)

// TestVerifyBegun: a segment of which the power was cut before its first bytes were
// durable is no damage, neither as it is nor once the log goes on in it.
func TestVerifyBegun(t *testing.T) {
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	s.Close()
	if err := os.WriteFile(segmentFile(s.dir, 1), make([]byte, taleSegment), 0o600); err != nil {
		t.Fatal(err)
	}
	for want := range 3 {
		got, err := Verify(t.Context(), s.dir, opts)
		if err != nil || len(got.Damaged) > 0 || got.Entries != want {
			t.Errorf("Verify: %v, %v, %v, want %d entries and no damage", got, got.Damaged, err, want)
		}
		s = openTest(t, s.dir, opts)
		if e := storeOne(t, s, noise(100)); want == 0 {
			if name, _, err := entryFile(s, e.ID); err != nil || name != segmentFile(s.dir, 1) {
				t.Errorf("the log goes on in %s, error %v", name, err)
			}
		}
		s.Close()
	}
}
