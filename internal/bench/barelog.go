package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
)

// A bareLog is the least that makes messages durable for many callers at once:
// one file that grows, one write and one fdatasync for each group. It has no
// checksums, no index, and no way to remove anything.
type bareLog struct {
	file     *os.File
	requests chan *logRequest
	ended    chan struct{}
}

// A logRequest waits for the group that it is written with.
type logRequest struct {
	record, body []byte
	done         chan error
}

// logBuffer joins small writes of a group into one; what is larger is written
// from where it lies.
const logBuffer = 1 << 20

// logBacklog is how many callers may wait unseen; more wait to be seen.
const logBacklog = 1024

func openBareLog(dir string) (*bareLog, error) {
	file, err := os.OpenFile(filepath.Join(dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bench: the bare log: %w", err)
	}
	l := &bareLog{file: file, requests: make(chan *logRequest, logBacklog), ended: make(chan struct{})}
	go l.run()
	return l, nil
}

// Commit waits for the group; ctx does not count.
func (l *bareLog) Commit(_ context.Context, from *commits.Sender, body []byte) error {
	_, record := from.Record()
	r := &logRequest{record, body, make(chan error, 1)}
	l.requests <- r
	return <-r.done
}

// Close must not be called while there is a Commit.
func (l *bareLog) Close() error {
	close(l.requests)
	<-l.ended
	return l.file.Close()
}

// run is the only goroutine that writes.
func (l *bareLog) run() {
	defer close(l.ended)
	out := bufio.NewWriterSize(l.file, logBuffer) // keeps its first error
	var p logPace
	var group []*logRequest
	for first := range l.requests {
		group = p.collect(l.requests, append(group[:0], first))
		begin := time.Now()
		err := l.write(out, group)
		for _, r := range group {
			r.done <- err
		}
		p.closed(len(group)+len(l.requests), time.Since(begin))
	}
}

func (l *bareLog) write(out *bufio.Writer, group []*logRequest) error {
	var lengths [8]byte
	var errs []error
	for _, r := range group {
		binary.LittleEndian.PutUint32(lengths[:4], uint32(len(r.record)))
		binary.LittleEndian.PutUint32(lengths[4:], uint32(len(r.body)))
		for _, p := range [][]byte{lengths[:], r.record, r.body} {
			_, err := out.Write(p)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(append(errs, out.Flush())...); err != nil {
		return err
	}
	return syncData(l.file)
}

// A logPace says how long a group is collected: by the same rule as in boltspool,
// so that what is compared is what the two do with a group.
type logPace struct {
	callers int           // that were in flight when the last group closed
	commit  time.Duration // moving average of what a group takes
}

const maxLogLinger = 2 * time.Millisecond

func (p *logPace) closed(callers int, took time.Duration) {
	p.callers = callers
	if p.commit == 0 {
		p.commit = took
	}
	p.commit += (took - p.commit) / 8
}

// collect adds all that wait to group, and then what comes until it has as many
// as were in flight before, or for a quarter of what a group takes.
func (p *logPace) collect(requests <-chan *logRequest, group []*logRequest) []*logRequest {
	var timer <-chan time.Time
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return group
			}
			group = append(group, r)
			continue
		default:
		}
		if len(group) >= p.callers {
			return group
		}
		if timer == nil {
			timer = time.After(min(p.commit/4, maxLogLinger))
		}
		select {
		case r, ok := <-requests:
			if !ok {
				return group
			}
			group = append(group, r)
		case <-timer:
			return group
		}
	}
}
