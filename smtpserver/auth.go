package smtpserver

import (
	"errors"

	"github.com/emersion/go-sasl"

	"github.com/deferredqueue/deferredqueue/queue"
)

// AuthMechanisms returns what is offered now (RFC 4954): nothing while passwords
// would cross the network in clear, unless the host allows that.
func (s *session) AuthMechanisms() []string {
	a := s.opts.Auth
	inClear := a.AllowPlaintext && !s.opts.TLS.Require
	if a.Password == nil || s.pub.TLS == nil && !inClear {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

// Auth begins an authentication. go-smtp turns other errors than SMTPErrors
// into a reply with their text, so none leaves this file.
func (s *session) Auth(mech string) (sasl.Server, error) {
	switch {
	case s.pub.Hello == "":
		return nil, s.refuse(replyHello)
	case s.current() != nil:
		return nil, s.refuse(&reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "AUTH is not allowed in a transaction"})
	case s.pub.AuthnID != "": // by XCLIENT: go-smtp does not know
		return nil, s.refuse(&reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Authenticated already"})
	case s.opts.Auth.Password == nil:
		return nil, s.refuse(&reply{code: 502, enhanced: [3]int{5, 5, 1}, text: "AUTH is not available"})
	case len(s.AuthMechanisms()) == 0 && s.opts.TLS.Require:
		return nil, s.refuse(replyNeedTLS)
	case len(s.AuthMechanisms()) == 0:
		return nil, s.refuse(&reply{code: 538, enhanced: [3]int{5, 7, 11}, text: "Encryption required for AUTH"})
	case mech != sasl.Plain && mech != sasl.Login:
		return nil, s.refuse(&reply{code: 504, enhanced: [3]int{5, 5, 4}, text: "Unknown authentication mechanism"})
	}
	if mech == sasl.Login {
		return &passwordServer{s: s, next: newLoginServer(func(username, password string) error {
			return s.password("", username, password)
		})}, nil
	}
	return &passwordServer{s: s, next: sasl.NewPlainServer(s.password)}, nil
}

// A passwordServer keeps the texts of package sasl away from the client.
type passwordServer struct {
	s    *session
	next sasl.Server
}

func (p *passwordServer) Next(response []byte) (challenge []byte, done bool, err error) {
	defer p.s.contain("AUTH", &err)
	challenge, done, err = p.next.Next(response)
	if err == nil {
		return challenge, done, nil
	}
	var own *reply
	if !errors.As(err, &own) {
		own = replyCredentialsMalformed
	}
	return nil, false, p.s.refuse(own)
}

// password asks the host. Its error is a *reply.
func (s *session) password(authzid, username, password string) error {
	if !validIdentity(username) || authzid != "" && !validIdentity(authzid) {
		return replyCredentialsMalformed
	}
	ctx, cancel := s.processing()
	defer cancel()
	defer s.c.flushSoon()()
	err := s.opts.Auth.Password(ctx, s.pub, authzid, username, password)
	var verdict *queue.RejectError
	switch {
	case err == nil:
		s.pub.AuthnID, s.pub.AuthzID, s.authenticated = username, authzid, true
		if authzid == "" {
			s.pub.AuthzID = username
		}
		return nil
	case errors.As(err, &verdict):
		s.logger.Info("smtp authentication refused", "error", err)
		return verdictReply(verdict)
	}
	s.logger.Warn("smtp authentication failed", "error", err)
	return replyCredentials
}
