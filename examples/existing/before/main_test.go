package main

import (
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/examples/existing/internal/hosttest"
)

// The client waits for policy.
func TestOnce(t *testing.T) {
	const slow = 200 * time.Millisecond
	took := hosttest.Once(t, serve, slow, `(?s)signed and handed on: app@example\.com as app@example\.com to ada@example\.net, .*250 after (\S+)`)
	if took < slow {
		t.Errorf("the 250 took %v, and policy %v: the client did not wait for it", took, slow)
	}
}

func TestDialogue(t *testing.T) { hosttest.Dialogue(t, serve) }
