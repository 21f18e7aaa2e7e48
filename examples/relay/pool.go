package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A pool keeps connections to the smart host, so that not every message needs one of
// its own, and bounds them: of all queues together there are never more than
// config.conns, those included that are idle or about to be closed.
type pool struct {
	config *config
	slots  chan struct{} // one is held by each connection in use
	done   chan struct{}
	swept  sync.WaitGroup

	mu struct {
		sync.Mutex
		idle   []*conn // the one used last is the last
		closed bool
	}
}

// A conn is one connection, used by one delivery at a time.
type conn struct {
	*smtp.Client
	net      net.Conn
	uses     int
	broken   bool
	hostname string    // ours
	dsn      bool      // the other side sends notices itself
	since    time.Time // when it became idle
}

// newPool starts the goroutine that closes what is idle for too long; close ends it.
func newPool(c *config) *pool {
	p := &pool{config: c, slots: make(chan struct{}, c.conns), done: make(chan struct{})}
	p.swept.Go(p.sweep)
	return p
}

// maxWait is how long a message waits for its turn: half of a handler's deadline, so
// that the other half is there for its delivery.
const maxWait = attemptTimeout / 2

// get returns a connection, and whether it was used before: then the other side may
// have closed it meanwhile. It waits while all of them are in use. Whoever has waited
// for too long is put off for a minute, since nothing is wrong with the message or with
// the smart host. Each connection goes back with put or drop.
func (p *pool) get(ctx context.Context) (c *conn, used bool, err error) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
	case <-timer.C:
		return nil, false, queue.RetryAfter(time.Minute, fmt.Errorf("all %d connections to %s are in use", p.config.conns, p.config.host))
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	if c := p.take(); c != nil {
		return c, true, nil
	}
	if c, err = p.dial(ctx); err != nil {
		<-p.slots
	}
	return c, false, err
}

// take returns the idle connection that was used last, nil if there is none: then all
// connections are in use, and the slot of the caller is room for another one.
func (p *pool) take() (c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.mu.idle); n > 0 {
		c, p.mu.idle = p.mu.idle[n-1], p.mu.idle[:n-1]
	}
	return c
}

// put gives a connection back that is ready for the next message.
func (p *pool) put(c *conn) {
	c.uses++
	p.mu.Lock()
	keep := !p.mu.closed && !c.broken && c.uses < p.config.maxUses
	if keep {
		c.since = time.Now()
		p.mu.idle = append(p.mu.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		c.quit()
	}
	<-p.slots
}

// drop gives a connection back that is of no further use.
func (p *pool) drop(c *conn) {
	c.Close()
	<-p.slots
}

// sweep closes connections as they have been idle for long enough, whether there is
// mail or not.
func (p *pool) sweep() {
	timer := time.NewTimer(p.config.idle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			timer.Reset(p.closeIdle(p.config.idle))
		case <-p.done:
			p.closeIdle(0)
			return
		}
	}
}

// closeIdle closes connections that are idle for so long, and returns when the next of
// them may be.
func (p *pool) closeIdle(age time.Duration) (next time.Duration) {
	var closing sync.WaitGroup // side by side: the other side may be slow
	defer closing.Wait()
	for {
		select {
		case p.slots <- struct{}{}: // it counts until it is closed
		default:
			return age // all are in use
		}
		c, wait := p.oldest(age)
		if c == nil {
			<-p.slots
			return wait
		}
		closing.Go(func() {
			c.quit()
			<-p.slots
		})
	}
}

// oldest takes the connection that is idle longest, if that is at least age, and else
// says how long it will be until then.
func (p *pool) oldest(age time.Duration) (c *conn, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.idle) == 0 {
		return nil, age
	}
	c = p.mu.idle[0]
	if wait := age - time.Since(c.since); wait > 0 {
		return nil, wait
	}
	p.mu.idle = p.mu.idle[1:]
	return c, 0
}

// close closes what is idle. What is in use is closed when it is put back.
func (p *pool) close() {
	p.mu.Lock()
	p.mu.closed = true
	p.mu.Unlock()
	close(p.done)
	p.swept.Wait()
}

// reset ends a transaction that was not completed. The client forgets with it what the
// other side offers: who asks later, and finds the connection gone, learns that nothing is.
func (c *conn) reset() {
	c.broken = c.Reset() != nil || c.Hello(c.hostname) != nil
}

// quit ends a connection politely, without waiting long.
func (c *conn) quit() {
	c.CommandTimeout = 2 * time.Second
	c.Quit()
	c.Close()
}

// dial opens a connection that is ready for MAIL.
func (p *pool) dial(ctx context.Context) (_ *conn, err error) {
	dialing, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	nc, err := p.config.dial(dialing, "tcp", p.config.host)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	defer func() {
		if err != nil {
			nc.Close()
			err = fmt.Errorf("%s: %w", p.config.host, err)
		}
	}()
	var smtpClient *smtp.Client
	if p.config.noTLS {
		smtpClient = smtp.NewClient(nc)
	} else if smtpClient, err = smtp.NewClientStartTLS(nc, p.config.clientTLS()); err != nil {
		return nil, err
	}
	c := &conn{Client: smtpClient, net: nc, hostname: p.config.hostname}
	c.CommandTimeout, c.SubmissionTimeout = time.Minute, 10*time.Minute // RFC 5321, section 4.5.3.2.6
	if err := c.Hello(c.hostname); err != nil {
		return nil, err
	}
	c.dsn, _ = c.Extension("DSN")
	return c, p.auth(c)
}

func (p *pool) auth(c *conn) error {
	if p.config.user == "" {
		return nil
	}
	password, err := os.ReadFile(p.config.passwordFile)
	if err != nil {
		return err
	}
	return c.Auth(sasl.NewPlainClient("", p.config.user, strings.TrimSpace(string(password))))
}
