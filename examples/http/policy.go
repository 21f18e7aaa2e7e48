package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A policy sends each message once, as far as that can be: a client that got no answer
// submits a message again, and then there are two with the same key.
type policy struct {
	keys *keys
	send queue.Handler
}

// inject is the callback. It may be called again for the same message, with the same
// ID; another ID with the same key is a repeat.
func (p *policy) inject(ctx context.Context, m *queue.Message) error {
	first, err := p.keys.take(m.Meta["tenant"]+"\x00"+m.Meta[metaKey]+"\x00"+m.Envelope.Recipients[0].Address, m.ID.String())
	if err != nil {
		return err // tried again
	}
	if first != m.ID.String() {
		return queue.Drop("a repeat of " + first)
	}
	return p.send(ctx, m)
}

// keys remembers which message had a key first. Clients repeat within minutes, and
// messages live for a week: two are enough.
type keys struct{ db *bolt.DB }

const keepKeys = 14 * 24 * time.Hour

var bucket = []byte("keys")

func openKeys(path string) (*keys, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	k := &keys{db}
	if err := k.forget(time.Now().Add(-keepKeys)); err != nil {
		db.Close()
		return nil, err
	}
	return k, nil
}

func (k *keys) close() error { return k.db.Close() }

// take returns the ID that has the key: this one, if no other had it before. It is
// durable when take returns.
func (k *keys) take(key, id string) (first string, err error) {
	err = k.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		if v := b.Get([]byte(key)); len(v) > timeLen {
			first = string(v[timeLen:])
			return nil
		}
		first = id
		return b.Put([]byte(key), append([]byte(time.Now().UTC().Format(timeLayout)), id...))
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

// crlf ends lines with CRLF, as mail has them.
func crlf(r io.Reader) io.Reader { return &lines{r: bufio.NewReader(r)} }

type lines struct {
	r    *bufio.Reader
	last byte
	held bool // a line feed that waits for room
}

func (l *lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if l.held {
			p[n], l.held = '\n', false
			n++
			continue
		}
		if n > 0 && l.r.Buffered() == 0 {
			return n, nil
		}
		c, err := l.r.ReadByte()
		if err != nil {
			return n, err
		}
		if c == '\n' && l.last != '\r' {
			p[n], l.held = '\r', true
		} else {
			p[n] = c
		}
		n++
		l.last = c
	}
	return n, nil
}
