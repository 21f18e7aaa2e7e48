//go:build !linux

package checkpoint

import "testing"

func TestDescriptor(t *testing.T) {
	t.Skip("not checked: writes and syncs of bbolt itself that fail; that needs /dev/full and /proc of Linux")
}
