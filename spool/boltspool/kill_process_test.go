package boltspool_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// A hostProcess is a mail host in a process of its own.
type hostProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer // complete once the process has ended
	mu     struct {
		sync.Mutex
		events []hostEvent
	}
	more  chan struct{} // a hint after each event
	ended chan struct{} // closed when every line of the process has been read
	next  int           // the first of events that until has not looked at
}

func startHost(t *testing.T, cfg hostConfig) *hostProcess {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	args := append(cfg.wrap[:len(cfg.wrap):len(cfg.wrap)], os.Args[0])
	h := &hostProcess{
		t: t, cmd: exec.Command(args[0], args[1:]...),
		more: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	h.cmd.Env = append(os.Environ(), hostEnv+"="+string(text),
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // a second each otherwise
	h.cmd.Stderr = &h.stderr
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go h.read(stdout)
	t.Cleanup(func() {
		h.stdin.Close() // whatever wraps the host, this ends it
		h.cmd.Process.Kill()
		<-h.ended
	})
	return h
}

// read never lets the host wait, and ends when every line has been read.
func (h *hostProcess) read(r io.Reader) {
	defer close(h.ended)
	for lines := json.NewDecoder(r); ; {
		var ev hostEvent
		if err := lines.Decode(&ev); err != nil {
			return
		}
		h.mu.Lock()
		h.mu.events = append(h.mu.events, ev)
		h.mu.Unlock()
		select {
		case h.more <- struct{}{}:
		default:
		}
	}
}

// told returns the events so far.
func (h *hostProcess) told() []hostEvent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.events[:len(h.mu.events):len(h.mu.events)]
}

// await takes events until one satisfies f, and returns it; false if the host
// ended before.
func (h *hostProcess) await(what string, f func(hostEvent) bool) (hostEvent, bool) {
	h.t.Helper()
	timeout := time.NewTimer(hostTimeout)
	defer timeout.Stop()
	for ended := false; ; {
		for _, ev := range h.told()[h.next:] {
			h.next++
			if f(ev) {
				return ev, true
			}
		}
		if ended {
			return hostEvent{}, false
		}
		select {
		case <-h.more:
		case <-h.ended:
			ended = true
		case <-timeout.C:
			h.kill()
			h.t.Fatalf("no %s from the host; it said:\n%s", what, &h.stderr)
		}
	}
}

// until is await for a host that must not end.
func (h *hostProcess) until(what string, f func(hostEvent) bool) hostEvent {
	h.t.Helper()
	ev, ok := h.await(what, f)
	if !ok {
		err := h.cmd.Wait()
		h.t.Fatalf("the host ended (%v), want %s; it said:\n%s", err, what, &h.stderr)
	}
	return ev
}

func (h *hostProcess) untilKind(kind string) hostEvent {
	h.t.Helper()
	return h.until(kind, func(ev hostEvent) bool { return ev.Kind == kind })
}

// listening waits until the host can be dialled.
func (h *hostProcess) listening() string {
	h.t.Helper()
	for _, ev := range h.told()[:h.next] {
		if ev.Kind == "listening" {
			return ev.Addr
		}
	}
	return h.untilKind("listening").Addr
}

// say tells the host something.
func (h *hostProcess) say(what string) {
	h.t.Helper()
	if _, err := io.WriteString(h.stdin, what+"\n"); err != nil {
		h.t.Fatal(err)
	}
}

// mark returns all that the host has told until now.
func (h *hostProcess) mark() []hostEvent {
	h.t.Helper()
	h.say(sayMark)
	h.untilKind("mark")
	return h.told()[:h.next]
}

// kill ends the host as nothing else does, and returns all that it told.
func (h *hostProcess) kill() []hostEvent {
	h.cmd.Process.Kill() // an error says that it has ended already
	events, _ := h.wait()
	return events
}

// stop ends the host as its operator would.
func (h *hostProcess) stop() []hostEvent {
	h.t.Helper()
	h.stdin.Close()
	events, err := h.wait()
	if err != nil {
		h.t.Errorf("the host stopped with %v; it said:\n%s", err, &h.stderr)
	}
	return events
}

// wait returns all that the host told until its end, which it awaits.
func (h *hostProcess) wait() ([]hostEvent, error) {
	<-h.ended
	return h.told(), h.cmd.Wait()
}

// end is wait for a host that is to end by itself.
func (h *hostProcess) end() ([]hostEvent, error) {
	h.t.Helper()
	timer := time.AfterFunc(hostTimeout, func() {
		h.t.Error("the host does not end")
		h.stdin.Close()
		h.cmd.Process.Kill()
	})
	defer timer.Stop()
	return h.wait()
}
