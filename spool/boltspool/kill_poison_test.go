package boltspool_test

import (
	"errors"
	"net/textproto"
	"os/exec"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// TestKillPoison delivers a message whose handler kills the host. The third
// host does not run it at once but works on other mail, and stays.
func TestKillPoison(t *testing.T) {
	k := newKillTest(t, time.Hour)
	h := k.start()
	id := k.deliverOne(h.listening(), "exit")
	k.died(h, id, 1)
	k.died(k.start(), id, 2)

	h = k.start()
	other := k.deliverOne(h.listening(), "ok")
	var put, passed bool // off, and on
	h.until("TransientFailure of the one and the delivery of the other", func(ev hostEvent) bool {
		put = put || ev.ID == id && ev.Kind == string(queue.TransientFailure)
		passed = passed || ev.ID == other && ev.Kind == string(queue.Delivery) && ev.Queue == outQueue
		return put && passed
	})
	k.check(h.stop())
	e := k.entries[id]
	if len(k.entries) != 1 || e == nil || e.Attempts != 1 || e.Interrupted != 1 || e.LastError == "" {
		t.Fatalf("left: %v, %+v; want the one message with Attempts 1 and Interrupted 1", len(k.entries), e)
	}
	if early := time.Until(e.Due); early < 50*time.Minute {
		t.Errorf("due in %v, want an hour after it was put off", early)
	}
}

// TestKillPoisonAgain lets the message kill a host whenever it is due: each time
// it waits longer.
func TestKillPoisonAgain(t *testing.T) {
	k := newKillTest(t, 50*time.Millisecond)
	h := k.start()
	id := k.deliverOne(h.listening(), "exit")
	k.died(h, id, 1)
	for attempts := range 4 {
		k.died(k.start(), id, 2)
		if got := k.entries[id].Attempts; got != attempts {
			t.Fatalf("%d hosts died of it with %d failed attempts, want %d", attempts+2, got, attempts)
		}
	}
}

// died awaits that a host dies of a message, which is counted.
func (k *killTest) died(h *hostProcess, id spool.ID, interrupted int) {
	k.t.Helper()
	timer := time.AfterFunc(hostTimeout, func() { h.cmd.Process.Kill() })
	defer timer.Stop()
	events, err := h.wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitStatus {
		k.t.Fatalf("the host ended with %v, want status %d; it said:\n%s", err, exitStatus, &h.stderr)
	}
	k.check(events)
	if e := k.entries[id]; e == nil || e.Interrupted != interrupted {
		k.t.Fatalf("the host left %+v, want Interrupted %d", e, interrupted)
	}
}

// deliverOne delivers a message of a kind.
func (k *killTest) deliverOne(addr, kind string) spool.ID {
	k.t.Helper()
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	if _, _, err = c.ReadResponse(220); err == nil {
		err = command(c, 250, "EHLO client.example")
	}
	if err == nil {
		err = k.bag.send(c, mailContent(), kind)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.bag.mu.Lock()
	defer k.bag.mu.Unlock()
	for id, is := range k.bag.mu.kinds {
		if is == kind {
			return id
		}
	}
	k.t.Fatalf("no message to %s was acknowledged", kind)
	return spool.ID{}
}
