// Package commits loads a store with messages, as many callers at once do who
// wait for each of theirs to be durable. It is the better part of a process
// that `bench spool` measures, and shared by those that nested modules build.
package commits

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A Config is the first request to a process. Phases follow, each answered by
// a Result.
type Config struct {
	Store      string // for programs that have several
	Dir        string // where it may store; exists and is empty
	Committers int
	Size       int    // of the bodies
	Warmup     Phase  // before the answer
	Profile    string // the file for a CPU profile of what follows, others beside it; none if empty
}

// Serve is the process: it opens a store, and loads it as it is asked to, until
// in ends.
func Serve(in io.Reader, out io.Writer, open func(Config) (Store, error)) (err error) {
	var store Store
	var load *Load
	var profiles *measure.Profiles
	defer func() {
		err = errors.Join(err, profiles.Stop())
		if store != nil {
			err = errors.Join(err, store.Close())
		}
	}()
	return measure.Serve(in, out, func(request json.RawMessage) (any, error) {
		ctx := context.Background() // the parent kills the process when its own ends
		if load != nil {
			var p Phase
			if err := json.Unmarshal(request, &p); err != nil {
				return nil, err
			}
			return load.Run(ctx, p)
		}
		var c Config
		if err := json.Unmarshal(request, &c); err != nil {
			return nil, err
		}
		opened, err := open(c)
		if err != nil {
			return nil, err
		}
		store = opened
		load = NewLoad(store, c.Dir, c.Committers, c.Size)
		if _, err := load.Run(ctx, c.Warmup); err != nil {
			return nil, err
		}
		profiles, err = measure.StartProfiles(c.Profile)
		return nil, err
	})
}
