package main

import (
	"runtime/metrics"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// usage is what a server has used since it was started. What is not known is 0.
type usage struct {
	CPU        time.Duration
	Allocs     uint64 // objects on the heap
	AllocBytes uint64
	Reads      uint64 // system calls, on files and sockets
	Writes     uint64

	Spool       bool   // whether there is a boltspool, of which the following are
	Checkpoints uint64 // of its index
	Syncs       uint64 // of its log: groups that were made durable together
}

// ownUsage measures this process.
func ownUsage() (usage, error) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:objects"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(samples)
	cpu, err := measure.CPU()
	io := measure.OwnIO()
	return usage{
		CPU: cpu, Allocs: samples[0].Value.Uint64(), AllocBytes: samples[1].Value.Uint64(),
		Reads: io.Reads, Writes: io.Writes,
	}, err
}

// since returns what was used between before and u.
func (u usage) since(before usage) usage {
	return usage{
		CPU:    u.CPU - before.CPU,
		Allocs: u.Allocs - before.Allocs, AllocBytes: u.AllocBytes - before.AllocBytes,
		Reads: u.Reads - before.Reads, Writes: u.Writes - before.Writes,
		Spool: u.Spool, Checkpoints: u.Checkpoints - before.Checkpoints, Syncs: u.Syncs - before.Syncs,
	}
}
