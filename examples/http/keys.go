package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// keys remembers what had a key first. Clients repeat within minutes, and messages live
// for a week: two are enough.
type keys struct {
	db     *bolt.DB
	logger *slog.Logger
	done   chan struct{}
	swept  sync.WaitGroup
}

const (
	keepKeys    = 14 * 24 * time.Hour
	forgetEvery = 6 * time.Hour
)

var bucket = []byte("keys")

// openKeys starts a goroutine that forgets old keys; close ends it.
func openKeys(path string, logger *slog.Logger) (*keys, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	k := &keys{db: db, logger: logger, done: make(chan struct{})}
	if err := k.forget(time.Now().Add(-keepKeys)); err != nil {
		db.Close()
		return nil, err
	}
	k.swept.Go(k.sweep)
	return k, nil
}

func (k *keys) sweep() {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := k.forget(time.Now().Add(-keepKeys)); err != nil {
				k.logger.Warn("old keys could not be forgotten; that is tried again", "error", err)
			}
		case <-k.done:
			return
		}
	}
}

func (k *keys) close() error {
	close(k.done)
	k.swept.Wait()
	return k.db.Close()
}

// take returns what has the key: this value, if no other had it before. It is durable
// when take returns.
func (k *keys) take(key, value string) (first string, err error) {
	err = k.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		if v := b.Get([]byte(key)); len(v) > timeLen {
			first = string(v[timeLen:])
			return nil
		}
		first = value
		return b.Put([]byte(key), append([]byte(time.Now().UTC().Format(timeLayout)), value...))
	})
	return first, err
}

const (
	timeLayout = "20060102150405"
	timeLen    = len(timeLayout)
)

// forget removes what is older than t.
func (k *keys) forget(t time.Time) error {
	limit := t.UTC().Format(timeLayout)
	return k.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		var old [][]byte
		err = b.ForEach(func(key, v []byte) error {
			if len(v) < timeLen || string(v[:timeLen]) < limit {
				old = append(old, bytes.Clone(key))
			}
			return nil
		})
		for _, key := range old {
			if err == nil {
				err = b.Delete(key)
			}
		}
		return err
	})
}
