package boltspool

func (s *Spool) heal(bad []badRecord) error { return nil }
