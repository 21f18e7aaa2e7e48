package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// maxMessage is what every server under test accepts at the most.
const maxMessage = 64 << 20

// A subjectConfig tells a subject process which server to be.
type subjectConfig struct {
	Server     string // one of ownServers
	Dir        string // where it may store; exists and is empty
	Mode       string // of the client: decides about TLS
	Recipients int
	Profile    string   // the file for a CPU profile, others beside it; none if empty
	Deferred   bool     // clamp: DeferredQueue
	Callback   callback // clamp: what the callback does
}

// A subjectInfo is the answer.
type subjectInfo struct {
	Addr string
}

// A host is a server that runs in this process.
type host interface {
	// serve accepts connections from ln until close.
	serve(ln net.Listener) error
	close() error
}

// An environment is what a host is made from.
type environment struct {
	subjectConfig
	tls    *tls.Config // nil if the mode has no TLS
	logger *slog.Logger
}

// implicit reports whether TLS begins with the first octet.
func (e *environment) implicit() bool { return e.Mode == modeTLS }

// ownServers are the servers that this program can be.
var ownServers = map[string]func(e *environment) (host, error){
	"stock":         newStock,
	"stock-file":    newStockFile,
	"sink":          newSink,
	"memory":        newMemoryHost,
	"boltspool":     newBoltHost,
	"deferredspool": newDeferredSpoolHost,
	"reception":     newReceptionHost,
	"clamp":         newClampHost,
	"steady":        newSteadyHost,
}

// runSubject is the subject process. After its configuration, each request is
// answered with what the process has used so far.
func runSubject(_ context.Context, _ []string, std streams) (err error) {
	var s *subject
	defer func() {
		if s != nil {
			err = errors.Join(err, s.close())
		}
	}()
	return measure.Serve(std.in, std.out, func(request json.RawMessage) (any, error) {
		if s != nil {
			return s.usage()
		}
		var config subjectConfig
		if err := json.Unmarshal(request, &config); err != nil {
			return nil, err
		}
		if s, err = startSubject(config); err != nil {
			return nil, err
		}
		return subjectInfo{Addr: s.addr}, s.profile(config.Profile)
	})
}

// A subject is a host that serves a socket on loopback.
type subject struct {
	host   host
	addr   string
	served chan error
	notes  *measure.Profiles // nil without
}

func startSubject(config subjectConfig) (*subject, error) {
	e := &environment{subjectConfig: config, logger: slog.New(slog.DiscardHandler)}
	if config.Mode == modeTLS || config.Mode == modeSTARTTLS {
		cert, err := selfSigned()
		if err != nil {
			return nil, err
		}
		e.tls = serverTLS(cert)
	}
	create, ok := ownServers[config.Server]
	if !ok {
		return nil, fmt.Errorf("bench: no server %q", config.Server)
	}
	h, err := create(e)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: listening: %w", err), h.close())
	}
	s := &subject{host: h, addr: ln.Addr().String(), served: make(chan error, 1)}
	go func() { s.served <- h.serve(ln) }()
	return s, nil
}

// usage is what the process has used, and the spool that it has done.
func (s *subject) usage() (usage, error) {
	u, err := ownUsage()
	if h, ok := s.host.(*libraryHost); ok {
		h.count(&u)
	}
	return u, err
}

// profile writes profiles, of what there is until close.
func (s *subject) profile(path string) (err error) {
	s.notes, err = measure.StartProfiles(path)
	return err
}

func (s *subject) close() error {
	profiled := s.notes.Stop()
	return errors.Join(profiled, s.host.close(), <-s.served)
}

func serverTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// selfSigned makes a certificate that lasts for the run.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("bench: making a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("bench: making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
