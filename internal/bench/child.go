package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// What this program runs itself as, in processes of their own.
const (
	subjectProcess = "subject" // a server
	loadProcess    = "load"    // the client
	storeProcess   = "store"   // a store and its callers
	scaleProcess   = "scale"   // a spool with many messages
	hostProcess    = "host"    // a scheduler with many messages
	queuedProcess  = "queued"  // a scheduler with many messages that wait
	lifeProcess    = "life"    // a server that is looked at
)

// grace is how long a process may take to end by itself.
const grace = 10 * time.Second

// A child is a program in another process, usually this one. It answers each line of JSON on
// its standard input by one on its standard output, and ends at the end of its
// input, so that it never outlives its parent. It is not for concurrent use.
type child struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr *tail
}

// startChild starts this program in another process and sends it its
// configuration; its answer goes to answer. The process is killed when ctx ends.
func startChild(ctx context.Context, name string, config, answer any) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("bench: finding this program: %w", err)
	}
	return startProgram(ctx, exe, name, config, answer)
}

// startProgram is startChild with any program that answers in the same way.
func startProgram(ctx context.Context, exe, name string, config, answer any) (_ *child, err error) {
	c := &child{name: name, cmd: exec.CommandContext(ctx, exe, name), stderr: &tail{}}
	c.cmd.SysProcAttr = dieWithParent()
	c.cmd.Stderr = c.stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("bench: starting a %s process: %w", name, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: starting a %s process: %w", name, err)
	}
	c.out = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: starting a %s process: %w", name, err)
	}
	if err := c.call(config, answer); err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// call sends one request and waits for its answer.
func (c *child) call(request, answer any) error {
	if err := json.NewEncoder(c.in).Encode(request); err != nil {
		return fmt.Errorf("bench: the %s process has ended: %w %s", c.name, err, c.stderr)
	}
	var r measure.Reply
	if err := c.out.Decode(&r); err != nil {
		return fmt.Errorf("bench: the %s process did not answer: %w %s", c.name, err, c.stderr)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(r.Value, answer)
}

// stop lets the child end by itself and kills it if it does not.
func (c *child) stop() error {
	c.in.Close()
	timer := time.AfterFunc(grace, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("bench: the %s process: %w %s", c.name, err, c.stderr)
	}
	return nil
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.in.Close()
	_ = c.cmd.Wait() // it says that it was killed
}

// A tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu struct {
		sync.Mutex
		b []byte
	}
}

const tailSize = 2000

// Write keeps the last octets of p, and of what came before.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.b = append(t.mu.b, p...)
	t.mu.b = t.mu.b[max(0, len(t.mu.b)-tailSize):]
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.mu.b))
}
