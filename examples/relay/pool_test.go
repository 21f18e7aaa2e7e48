package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
)

// TestManyDomains: however many queues have mail, the smart host sees no more
// connections than it was promised, and all of the mail.
func TestManyDomains(t *testing.T) {
	const domains, each = 30, 8
	h := startHost(t, nil)
	c := testConfig(h, t.TempDir())
	c.conns = 5
	busy, release := make(chan struct{}, domains*each), make(chan struct{})
	h.set(func() {
		h.onData = func(*session) error {
			busy <- struct{}{}
			<-release
			return nil
		}
	})
	r := startRelay(t, c)
	for d := range domains {
		for i := range each {
			r.send(to(fmt.Sprintf("%d@%d.example", i, d)), text)
		}
	}
	for end := time.Now().Add(20 * time.Second); r.sched.Stats().Running < domains*each; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d handlers run, want all of them at once", r.sched.Stats().Running)
		}
	}
	for range c.conns {
		<-busy
	}
	close(release)
	for _, rec := range r.ends(domains * each) {
		if rec.Type != queue.Delivery || rec.Attempts != 0 {
			t.Errorf("%s %v after %d failures: %+v", rec.Type, rec.Recipients, rec.Attempts, rec.Response)
		}
	}
	if n := h.connections(); n > c.conns { // each takes 100 messages: none was opened in the place of another
		t.Errorf("%d connections, want %d at most", n, c.conns)
	}
}

// TestIdleIsClosed: connections end when they were idle for long enough, without any
// more mail, and those too that are never the first to be used again.
func TestIdleIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, open := pipePool(t, 4)
		use := func(n int) {
			var conns []*conn
			for range n {
				c, _, err := p.get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
			}
			for _, c := range conns {
				p.put(c)
			}
		}
		use(3)
		time.Sleep(p.config.idle / 2)
		use(1)
		time.Sleep(p.config.idle/2 - 1)
		if n := open(); n != 3 {
			t.Errorf("%d connections are open, want 3: none is idle for long enough", n)
		}
		time.Sleep(time.Nanosecond)
		if n := open(); n != 1 {
			t.Errorf("%d connections are open, want 1: the others are idle for %v", n, p.config.idle)
		}
		time.Sleep(p.config.idle / 2)
		if n := open(); n != 0 {
			t.Errorf("%d connections are open, want none", n)
		}
		use(2)
		p.close() // at once, and in the end nothing of it runs: the bubble would not end
		if n := open(); n != 0 {
			t.Errorf("%d connections are open after close", n)
		}
	})
}

// TestWaitsForConnection: a message that finds all connections in use waits, and is put
// off for a minute in time: it does not run into its deadline.
func TestWaitsForConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, open := pipePool(t, 1)
		defer p.close()
		c, _, err := p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d := &delivery{pool: p}
		m := deferredtest.NewMessage(t, to("b@example.com"), text)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), attemptTimeout)
		defer cancel()
		if err := d.deliver(ctx, m); err == nil || ctx.Err() != nil || time.Since(begin) != maxWait {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		if err := d.deliver(stopped, m); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that of the context", err)
		}
		time.AfterFunc(maxWait/2, func() { p.put(c) })
		if err := d.deliver(ctx, m); err != nil || open() != 1 {
			t.Errorf("%v, %d connections", err, open())
		}
	})
}

// TestBrokenGiveBack: what goes wrong gives its place back.
func TestBrokenGiveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, open := pipePool(t, 1)
		defer p.close()
		d := &delivery{pool: p, hostname: "relay.example"}
		fine := p.config.dial
		deliver := func() error {
			return d.deliver(t.Context(), deferredtest.NewMessage(t, to("b@example.com"), text))
		}
		p.config.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
		for range 2 {
			if err := deliver(); err == nil {
				t.Error("delivered to nowhere")
			}
		}
		p.config.dial = fine
		p.config.maxUses = 2
		for range 5 {
			if err := deliver(); err != nil {
				t.Error(err)
			}
		}
		p.mu.idle[0].net.Close()
		if err := deliver(); err != nil || open() != 1 {
			t.Errorf("%v, %d connections", err, open())
		}
	})
}

// pipePool is a pool whose smart host is in memory, for tests in virtual time. open says
// how many connections there are.
func pipePool(t *testing.T, conns int) (p *pool, open func() int) {
	h := &host{t: t}
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{h: h, conn: c}, nil }))
	srv.Domain, srv.ErrorLog = "smarthost.example", discard{}
	ln := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	c := testConfig(h, "")
	c.conns = conns
	c.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case ln.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return newPool(c), func() int {
		synctest.Wait()
		return int(ln.open.Load())
	}
}

// A pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	open   atomic.Int32
}

type counted struct {
	net.Conn
	close func()
}

func (c *counted) Close() error {
	c.close()
	return c.Conn.Close()
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		p.open.Add(1)
		return &counted{c, sync.OnceFunc(func() { p.open.Add(-1) })}, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
