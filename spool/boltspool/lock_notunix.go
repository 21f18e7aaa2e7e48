//go:build !unix

package boltspool

import "os"

// tryLock leaves it to the lock that bbolt takes on the index.
func tryLock(*os.File, bool) error { return nil }
