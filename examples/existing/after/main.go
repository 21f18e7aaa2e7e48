// Command after is command before, beside it, on deferredqueue: the client has its
// 250 as soon as the message is on disk, and policy runs then, until it succeeds.
// All that changed is in change.diff.
//
//	go run ./examples/existing/after -once
package main

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/examples/existing/internal/host"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
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

func (s *session) Data(io.Reader) error { return errors.ErrUnsupported } // Wrap takes the content

// Meta goes with the message to policy.
func (s *session) Meta() map[string]string { return map[string]string{"authn_id": s.user} }

// policy is what Data was, called after the 250 and until it returns nil.
func (b *backend) policy(ctx context.Context, m *queue.Message) error {
	r, err := m.Open()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var to []string
	for _, rcpt := range m.Envelope.Recipients {
		to = append(to, rcpt.Address)
	}
	return b.host.Process(ctx, m.Meta["authn_id"], m.Envelope.Sender, to, content)
}

func (s *session) Reset() { s.from, s.to = "", nil }

func (s *session) Logout() error { return nil }

func serve(ctx context.Context, ln net.Listener, h *host.Host) error {
	sp, err := boltspool.Open(h.Spool, nil)
	if err != nil {
		return err
	}
	defer sp.Close()
	own := &backend{h}
	sched, err := queue.NewScheduler(sp, own.policy, nil)
	if err != nil {
		return err
	}
	deferring, wrapped, err := wrap(own, sched, ln)
	if err != nil {
		return err
	}
	srv := smtp.NewServer(deferring)
	srv.Domain = "mx.example.com"
	srv.AllowInsecureAuth = true // it listens on loopback
	ctx, stop := context.WithCancel(ctx)
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() {
		defer stop()
		served <- srv.Serve(wrapped)
	}()
	work, rest := context.WithCancel(context.Background())
	go func() {
		defer stop()
		ran <- sched.Run(work)
	}()
	<-ctx.Done()
	err = wrapped.Shutdown(context.Background())
	rest() // nothing more is accepted; what is queued stays in the spool
	if end := <-served; !errors.Is(end, net.ErrClosed) {
		err = errors.Join(err, end)
	}
	return errors.Join(err, <-ran)
}

// wrap puts sched behind a backend, and its connections below go-smtp.
func wrap(own smtp.Backend, sched *queue.Scheduler, ln net.Listener) (smtp.Backend, *smtpserver.WrappedListener, error) {
	opts := &smtpserver.Options{DeferredQueue: true}
	deferring, err := smtpserver.Wrap(own, sched, opts)
	if err != nil {
		return nil, nil, err
	}
	wrapped, err := smtpserver.WrapListener(ln, opts)
	return deferring, wrapped, err
}
