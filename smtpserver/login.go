package smtpserver

import (
	"bytes"
	"errors"

	"github.com/emersion/go-sasl"
)

// maxPassword is how many octets a password may have; some are tokens.
const maxPassword = 4096

var errLoginResponse = errors.New("smtpserver: malformed response to AUTH LOGIN")

// A loginServer is the server's side of LOGIN (draft-murchison-sasl-login): it
// asks for the name and then for the password. Clients may give the name as the
// initial response. It is for one authentication and one goroutine.
type loginServer struct {
	authenticate func(username, password string) error

	asked    bool // for the name
	named    bool
	done     bool
	username string
}

var _ sasl.Server = (*loginServer)(nil)

// newLoginServer returns a server that asks authenticate, whose error it returns
// as it is.
func newLoginServer(authenticate func(username, password string) error) *loginServer {
	return &loginServer{authenticate: authenticate}
}

// Next takes a response. nil at the beginning means that there was none yet.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.done:
		return nil, false, sasl.ErrUnexpectedClientResponse
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case !l.named:
		l.asked, l.named, l.username = true, true, string(response)
		if !validIdentity(l.username) {
			l.done = true
			return nil, false, errLoginResponse
		}
		return []byte("Password:"), false, nil
	}
	l.done = true
	if len(response) > maxPassword || bytes.IndexByte(response, 0) >= 0 {
		return nil, false, errLoginResponse
	}
	if err := l.authenticate(l.username, string(response)); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}
