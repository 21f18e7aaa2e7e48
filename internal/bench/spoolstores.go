package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// What spool compares. Pebble is a program of its own, in a nested module.
const (
	storeBolt   = "boltspool"
	storeLog    = "barelog"
	storePebble = "pebble"
)

var stores = []string{storeBolt, storeLog, storePebble}

// runStore is the process of the stores that this program has.
func runStore(_ context.Context, _ []string, std streams) error {
	return commits.Serve(std.in, std.out, func(c commits.Config) (commits.Store, error) {
		switch c.Store {
		case storeBolt:
			sp, err := openBoltStore(c.Dir)
			return boltStore{sp}, err
		case storeLog:
			return openBareLog(c.Dir)
		}
		return nil, fmt.Errorf("bench: no store %q", c.Store)
	})
}

func openBoltStore(dir string) (*boltspool.Spool, error) {
	return boltspool.Open(filepath.Join(dir, "spool"), &boltspool.Options{Logger: slog.New(slog.DiscardHandler)})
}

// A boltStore commits as package smtpserver does: it keeps what it accepts.
type boltStore struct{ *boltspool.Spool }

// Commit stages the body and commits it with one entry.
func (s boltStore) Commit(ctx context.Context, from *commits.Sender, body []byte) error {
	return s.commit(ctx, from, body, true)
}

func (s boltStore) commit(ctx context.Context, from *commits.Sender, body []byte, keep bool) error {
	w, err := s.Create(ctx, int64(len(body)))
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		return err
	}
	e := from.Entry(w.ID())
	if keep {
		return w.Commit(ctx, e)
	}
	if errs := s.Apply(ctx, spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}}); errs != nil {
		return errs[0]
	}
	return nil
}

// A sharedStore commits so that what it accepted can be claimed at once.
type sharedStore struct{ boltStore }

// Commit stages the body and stores it with one entry that nobody owns.
func (s sharedStore) Commit(ctx context.Context, from *commits.Sender, body []byte) error {
	return s.commit(ctx, from, body, false)
}
