package main

import (
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/examples/existing/internal/hosttest"
)

// The client does not wait for policy.
func TestOnce(t *testing.T) {
	const slow = 2 * time.Second
	took := hosttest.Once(t, serve, slow, `(?s)250 after (\S+).*signed and handed on: app@example\.com as app@example\.com to ada@example\.net, `)
	if took >= slow {
		t.Errorf("the 250 took %v, and policy %v: the client waited for it", took, slow)
	}
}

func TestDialogue(t *testing.T) { hosttest.Dialogue(t, serve) }
