//go:build !unix || solaris || aix

package recordlog

import "os"

// lock does nothing here: one process alone may write to a directory.
func lock(*os.File) bool { return true }
