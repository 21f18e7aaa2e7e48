package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime/metrics"
	"sync/atomic"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
	"github.com/deferredqueue/deferredqueue/queue"
)

// A steadyState is what a steady process has done so far, and what it takes now.
type steadyState struct {
	Used    measure.Used
	Memory  measure.Memory
	Heap    uint64 // bytes of objects that are in use or not yet swept
	Removed int64  // messages
	Queued  int64  // messages that are accepted and not removed
}

// A steadyHost takes every message through its whole life: the callback reads the
// header and routes, and the handler of that queue reads all of it, as one that
// delivers does. With its nil the message is removed.
type steadyHost struct {
	*libraryHost
	removed atomic.Int64
	meter   *measure.Meter
}

func newSteadyHost(e *environment) (host, error) {
	sp, err := openBolt(e)
	if err != nil {
		return nil, err
	}
	s := &steadyHost{meter: measure.NewMeter(e.Dir)}
	h, err := newLibraryHost(e, sp, route, takeRecords(e), deferred.Options{DeferredQueue: true}, false)
	if err != nil {
		return nil, err
	}
	s.libraryHost = h.(*libraryHost)
	if err := errors.Join(s.sched.Handle("*", readAll), s.sched.Observe(s.count)); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.run()
	return s, nil
}

// route is the callback.
func route(_ context.Context, m *queue.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	m.Meta["campaign"] = h.Get("Subject")
	return nil
}

// readAll is the handler.
func readAll(_ context.Context, m *queue.Message) error {
	body, err := m.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

func (s *steadyHost) count(r queue.Record) {
	if r.Type == queue.Delivery && r.Queue != queue.Deferred {
		s.removed.Add(1)
	}
}

func (s *steadyHost) state() (st steadyState, err error) {
	if st.Used, err = s.meter.Read(); err != nil {
		return st, err
	}
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	now := s.sched.Stats()
	st.Memory, st.Heap = measure.OwnMemory(), heap[0].Value.Uint64()
	st.Removed, st.Queued = s.removed.Load(), now.Ready+now.Scheduled+int64(now.Running)
	return st, nil
}

// runLife is the process. After its configuration, each request is answered with
// its state.
func runLife(_ context.Context, _ []string, std streams) (err error) {
	var s *subject
	defer func() {
		if s != nil {
			err = errors.Join(err, s.close())
		}
	}()
	return measure.Serve(std.in, std.out, func(request json.RawMessage) (any, error) {
		if s != nil {
			return s.host.(*steadyHost).state()
		}
		var config subjectConfig
		if err := json.Unmarshal(request, &config); err != nil {
			return nil, err
		}
		config.Server = "steady"
		if s, err = startSubject(config); err != nil {
			return nil, err
		}
		return subjectInfo{Addr: s.addr}, s.profile(config.Profile)
	})
}
