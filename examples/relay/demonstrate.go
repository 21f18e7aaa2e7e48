package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"time"

	server "github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
)

// demonstrate runs the relay with a smart host that takes some mail, refuses some, and
// puts some off at first, and shows the records.
func demonstrate(ctx context.Context, c *config, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	host := server.NewServer(server.BackendFunc(func(*server.Conn) (server.Session, error) { return &smartHost{}, nil }))
	host.Domain, host.ErrorLog = "smarthost.example", discard{}
	go host.Serve(ln)
	defer host.Close()

	if c.dir, err = os.MkdirTemp("", "relay"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	c.host, c.noTLS, c.listen, c.metrics = ln.Addr().String(), true, "127.0.0.1:0", "127.0.0.1:0"
	c.backoff, c.logger = queue.Backoff{Base: 500 * time.Millisecond}, slog.New(slog.DiscardHandler)
	r, err := open(c)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- r.serve(ctx) }()
	err = showRecords(ctx, c, r, out)
	cancel()
	return errors.Join(err, <-served, r.close())
}

// showRecords sends three messages and shows what becomes of them, and of the notice
// about one.
func showRecords(ctx context.Context, c *config, r *relay, out io.Writer) error {
	for _, to := range []string{"ada@example.net", "nobody@example.net", "later@example.net"} {
		msg := "From: <app@example.org>\r\nTo: <" + to + ">\r\nSubject: Hello\r\n\r\nHello.\r\n"
		if err := smtp.SendMail(r.addr, nil, "app@example.org", []string{to}, []byte(msg)); err != nil {
			return err
		}
	}
	left := 4 // three, and the notice
	for it, err := range recordlog.Follow(ctx, filepath.Join(c.dir, "records"), nil) {
		if err != nil {
			return err
		}
		rec := &it.Record
		fmt.Fprintf(out, "%-16s %-12s %v: %d %s\n", rec.Type, rec.Queue[:min(12, len(rec.Queue))], rec.Recipients, rec.Response.Code, rec.Response.Content)
		if rec.Type == queue.Bounce || rec.Type == queue.Delivery && rec.Queue != queue.Deferred {
			left--
		}
		if left == 0 {
			return nil
		}
	}
	return ctx.Err()
}

// A smartHost takes what is for nobody else.
type smartHost struct{ later bool }

func (*smartHost) Reset()                                 {}
func (*smartHost) Logout() error                          { return nil }
func (*smartHost) Mail(string, *server.MailOptions) error { return nil }

func (s *smartHost) Rcpt(to string, _ *server.RcptOptions) error {
	switch {
	case to == "nobody@example.net":
		return &server.SMTPError{Code: 550, EnhancedCode: server.EnhancedCode{5, 1, 1}, Message: "no such user"}
	case to == "later@example.net" && !s.later: // on this connection
		s.later = true
		return &server.SMTPError{Code: 450, EnhancedCode: server.EnhancedCode{4, 2, 0}, Message: "try again"}
	}
	return nil
}

func (*smartHost) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}
