package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// diskFile is how far the file grows until it is begun anew.
const diskFile = 1 << 30

// diskLimit returns how many bodies of that size a second the disk makes durable, by one
// writer that does nothing else: so many of them with one write and one fdatasync.
func diskLimit(ctx context.Context, dir string, size, group int, d time.Duration) (rate float64, err error) {
	bodies := make([]byte, size*group)
	fill := rand.NewChaCha8([32]byte{1}) // a disk may compress
	fill.Read(bodies)
	path := filepath.Join(dir, "disk")
	f, err := os.Create(path)
	if err != nil {
		return 0, fmt.Errorf("bench: the disk alone: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	written, n := 0, 0
	begin := time.Now()
	for time.Since(begin) < d || n == 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if written > diskFile {
			if err := f.Truncate(0); err != nil {
				return 0, fmt.Errorf("bench: the disk alone: %w", err)
			}
			written = 0
		}
		if _, err := f.WriteAt(bodies, int64(written)); err != nil {
			return 0, fmt.Errorf("bench: the disk alone: %w", err)
		}
		if err := syncData(f); err != nil {
			return 0, err
		}
		written += len(bodies)
		n += group
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
