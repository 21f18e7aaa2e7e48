package spool

import (
	"errors"
	"fmt"
	"testing"
)

// TestKindsOfFull: who asks for ErrFull need not know the kinds of it, and a
// kind is none of the others.
func TestKindsOfFull(t *testing.T) {
	all := []error{ErrFull, ErrQuota, ErrNoInodes}
	for i, kind := range all {
		wrapped := fmt.Errorf("boltspool: /spool: %w", kind)
		if !errors.Is(wrapped, ErrFull) {
			t.Errorf("%v is not ErrFull", kind)
		}
		for j, other := range all[1:] {
			if got, want := errors.Is(wrapped, other), i == j+1; got != want {
				t.Errorf("%v is %v: %v, want %v", kind, other, got, want)
			}
		}
		if errors.Is(wrapped, ErrBusy) {
			t.Errorf("%v is ErrBusy", kind)
		}
	}
}
