package main

import (
	"runtime"
	"testing"
	"time"
)

// What keeps processors awake gives way, and is gone afterwards.
func TestKeepAwake(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	stop, err := keepAwake()
	if err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(time.Millisecond)
	<-timer.C // others run meanwhile
	stop()
	if got := runtime.GOMAXPROCS(0); got != procs {
		t.Errorf("GOMAXPROCS is %d afterwards, was %d", got, procs)
	}
}
