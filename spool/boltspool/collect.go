package boltspool

func (k *keeper) collect() error { return nil }
