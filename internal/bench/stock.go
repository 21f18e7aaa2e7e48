package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// A stock host is go-smtp as a host would use it that has nothing else.
type stock struct {
	server   *smtp.Server
	implicit *tls.Config
	closed   atomic.Bool
	store    func(r io.Reader) error // takes the content
}

// newStock discards what it is sent: nothing on go-smtp alone can cost less.
func newStock(e *environment) (host, error) {
	return newStockHost(e, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}), nil
}

// newStockFile writes a file per message and syncs it and its directory: the
// simplest that may answer 250.
func newStockFile(e *environment) (host, error) {
	dir, err := os.Open(e.Dir)
	if err != nil {
		return nil, fmt.Errorf("bench: the directory of stock-file: %w", err)
	}
	var number atomic.Int64
	return newStockHost(e, func(r io.Reader) error {
		return storeFile(dir, strconv.FormatInt(number.Add(1), 10), r)
	}), nil
}

func storeFile(dir *os.File, name string, r io.Reader) error {
	f, err := os.OpenFile(filepath.Join(dir.Name(), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = dir.Sync()
	}
	return err
}

func newStockHost(e *environment, store func(io.Reader) error) *stock {
	s := &stock{store: store}
	s.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return stockSession{s}, nil
	}))
	s.server.Domain = "stock.example"
	s.server.ReadTimeout = time.Minute
	s.server.WriteTimeout = time.Minute
	s.server.MaxMessageBytes = maxMessage
	if e.implicit() {
		s.implicit = e.tls
	} else {
		s.server.TLSConfig = e.tls
	}
	return s
}

func (s *stock) serve(ln net.Listener) error {
	if s.implicit != nil {
		ln = tls.NewListener(ln, s.implicit)
	}
	err := s.server.Serve(ln)
	if s.closed.Load() {
		return nil
	}
	return err
}

func (s *stock) close() error {
	s.closed.Store(true)
	return s.server.Close()
}

// A stockSession accepts everything.
type stockSession struct{ s *stock }

func (stockSession) Mail(string, *smtp.MailOptions) error { return nil }
func (stockSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (t stockSession) Data(r io.Reader) error             { return t.s.store(r) }
func (stockSession) Reset()                               {}
func (stockSession) Logout() error                        { return nil }
