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
)

// A pool keeps connections to the smart host, so that not every message needs one of
// its own.
type pool struct {
	config *config

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

func newPool(c *config) *pool { return &pool{config: c} }

// get returns a connection, and whether it was used before: then the other side may
// have closed it meanwhile.
func (p *pool) get(ctx context.Context) (c *conn, used bool, err error) {
	if c := p.take(); c != nil {
		return c, true, nil
	}
	c, err = p.dial(ctx)
	return c, false, err
}

// take returns an idle connection that is young enough, and closes those that are not.
func (p *pool) take() *conn {
	p.mu.Lock()
	idle := p.mu.idle
	var c *conn
	if n := len(idle); n > 0 {
		c, p.mu.idle = idle[n-1], idle[:n-1]
	}
	if c == nil || time.Since(c.since) < p.config.idle {
		p.mu.Unlock()
		return c
	}
	old := append([]*conn{c}, p.mu.idle...) // they are older still
	p.mu.idle = nil
	p.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
	return nil
}

// reset ends a transaction that was not completed. The client forgets with it what the
// other side offers: who asks later, and finds the connection gone, learns that nothing is.
func (c *conn) reset() {
	c.broken = c.Reset() != nil || c.Hello(c.hostname) != nil
}

// put gives a connection back that is ready for the next message.
func (p *pool) put(c *conn) {
	c.uses++
	c.since = time.Now()
	p.mu.Lock()
	keep := !p.mu.closed && !c.broken && c.uses < p.config.maxUses
	if keep {
		p.mu.idle = append(p.mu.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		c.quit()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.mu.idle
	p.mu.idle, p.mu.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.quit()
	}
}

// quit ends a connection politely, without waiting long.
func (c *conn) quit() {
	c.CommandTimeout = 2 * time.Second
	c.Quit()
	c.Close()
}

// dial opens a connection that is ready for MAIL.
func (p *pool) dial(ctx context.Context) (_ *conn, err error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", p.config.host)
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
