// Command before is a mail service on go-smtp as there are many: AUTH, checks at
// MAIL and RCPT, and policy that the client waits for. Command after, beside it,
// is the same on deferredqueue.
//
//	go run ./examples/existing/before -once
package main

import (
	"context"
	"io"
	"net"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/examples/existing/internal/host"
)

func main() { host.Main(serve) }

type backend struct{ host *host.Host }

func (b *backend) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{host: b.host}, nil }

type session struct {
	host *host.Host
	user string
	from string
	to   []string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if !s.host.Knows(user, password) {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.host.Refuse(s.from, to, len(s.to)); err != nil {
		return err
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.host.Process(context.Background(), s.user, s.from, s.to, content)
}

func (s *session) Reset() { s.from, s.to = "", nil }

func (s *session) Logout() error { return nil }

func serve(ctx context.Context, ln net.Listener, h *host.Host) error {
	srv := smtp.NewServer(&backend{h})
	srv.Domain = "mx.example.com"
	srv.AllowInsecureAuth = true // it listens on loopback
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		defer stop()
		served <- srv.Serve(ln)
	}()
	<-ctx.Done()
	srv.Close()
	return <-served
}
