//go:build !linux

package boltspool

import "testing"

func TestIndexDescriptor(t *testing.T) {
	t.Skip("not checked: writes and syncs of bbolt itself that fail; that needs /dev/full and /proc of Linux")
}
