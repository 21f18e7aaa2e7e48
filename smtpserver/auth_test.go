package smtpserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

func acceptAll(context.Context, *Session, string, string, string) error { return nil }

// certificate makes a certificate that signs itself and is trusted by pool.
func certificate(t testing.TB) (cert tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mx.example.com"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// startTLS continues c under TLS.
func (c *client) startTLS(cfg *tls.Config) *client {
	c.t.Helper()
	c.cmd("STARTTLS", "220")
	tc := tls.Client(c.conn, cfg)
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, tc)
}

func TestStartTLS(t *testing.T) {
	cert, pool := certificate(t)
	h := serve(t, &Options{DeferredQueue: true, TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}, Require: true}})
	c := h.dial()
	c.want("220")
	if caps := c.cmd("EHLO x", "250"); !strings.Contains(caps, "250-STARTTLS\r\n") {
		t.Errorf("STARTTLS is not offered: %q", caps)
	}
	c.cmd("MAIL FROM:<>", "530 5.7.0")
	c = c.startTLS(&tls.Config{RootCAs: pool, ServerName: "mx.example.com"})
	c.cmd("MAIL FROM:<>", "503 5.5.1")
	if caps := c.cmd("EHLO x", "250"); strings.Contains(caps, "STARTTLS") {
		t.Errorf("STARTTLS is offered under TLS: %q", caps)
	}
	wantPrefix(t, c.data(plain, "a@b.example"), "250")
	m := h.next()
	if m.meta["tls_protocol_version"] != "TLS 1.3" || m.meta["tls_cipher"] == "" || !strings.Contains(m.content, "with ESMTPS id") || m.body() != plain {
		t.Errorf("metadata %v, content %q", m.meta, m.content)
	}
	c.cmd("STARTTLS", "503")
}

// TestInjectedCommand: what is pipelined in clear behind STARTTLS is not executed under TLS.
func TestInjectedCommand(t *testing.T) {
	cert, _ := certificate(t)
	h := serve(t, &Options{DeferredQueue: true, TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}}})
	c := h.greeted()
	c.send("STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")
	c.want("503 5.5.1")
	c.ended()
}

// TestStartTLSForgets: metadata that a hook made of commands in clear are gone,
// those of the connection stay.
func TestStartTLSForgets(t *testing.T) {
	cert, pool := certificate(t)
	h := serve(t, &Options{DeferredQueue: true, TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}}, Hooks: Hooks{
		Connect: func(_ context.Context, s *Session) error { s.Meta["connect"] = "kept"; return nil },
		Hello: func(_ context.Context, s *Session) error {
			s.Meta["connect"] += "!"
			if s.Hello == "forged.example" {
				s.Meta["tenant"] = "someone"
			}
			return nil
		},
	}})
	c := h.dial()
	c.want("220")
	c.cmd("EHLO forged.example", "250")
	c = c.startTLS(&tls.Config{RootCAs: pool, ServerName: "mx.example.com"})
	c.cmd("EHLO secure.example", "250")
	wantPrefix(t, c.data(plain, "a@b.example"), "250")
	wantMeta(t, h.next(), map[string]string{"connect": "kept!", "tenant": ""})
}

func TestClientCertificate(t *testing.T) {
	cert, pool := certificate(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	h := serve(t, &Options{DeferredQueue: true, RelayHosts: []netip.Prefix{}, TLS: TLS{Config: cfg, Implicit: true}})
	dial := func(certs ...tls.Certificate) *client {
		raw, err := net.Dial("tcp", h.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, tls.Client(raw, &tls.Config{RootCAs: pool, ServerName: "mx.example.com", Certificates: certs}))
		c.want("220")
		c.cmd("EHLO x", "250")
		return c
	}
	stranger := dial()
	stranger.cmd("MAIL FROM:<>", "250")
	stranger.cmd("RCPT TO:<a@b.example>", "550 5.7.1")
	wantPrefix(t, dial(cert).data(plain, "a@b.example"), "250")
	if m := h.next(); m.meta["tls_peer_subject_name"] != `["CN=client.example"]` {
		t.Errorf("metadata %v", m.meta)
	}
}

func TestAuth(t *testing.T) {
	check := func(_ context.Context, s *Session, authzid, user, password string) error {
		switch password {
		case "right":
			s.Meta["tenant"] = "acme"
			return nil
		case "down":
			return errors.New("cannot reach the database at secret.example")
		case "panic":
			panic("password")
		}
		return queue.Reject(535, "5.7.8 wrong password")
	}
	h := serve(t, &Options{DeferredQueue: true, RelayHosts: []netip.Prefix{}, Auth: Auth{Password: check, AllowPlaintext: true, Require: true}})
	token := func(password string) string {
		return base64.StdEncoding.EncodeToString([]byte("\x00user\x00" + password))
	}
	c := h.dial()
	c.want("220")
	c.cmd("AUTH PLAIN "+token("right"), "503")
	if caps := c.cmd("EHLO x", "250"); !strings.Contains(caps, "AUTH PLAIN") {
		t.Errorf("AUTH is not offered: %q", caps)
	}
	c.cmd("MAIL FROM:<>", "530 5.7.0")
	c.cmd("AUTH PLAIN "+token("wrong"), "535 5.7.8 wrong password")
	if got := c.cmd("AUTH PLAIN "+token("down"), "454 4.7.0"); strings.Contains(got, "secret") {
		t.Errorf("the reply gives the error away: %q", got)
	}
	c.cmd("AUTH CRAM-MD5", "504 5.5.4")
	c.cmd("AUTH PLAIN eA==", "501 5.5.2")
	c.cmd("AUTH PLAIN", "334")
	c.cmd("*", "501")
	c.cmd("AUTH PLAIN", "334")
	c.cmd(token("right"), "235")
	wantPrefix(t, c.data(plain, "a@b.example"), "250")
	m := h.next()
	if m.meta["authn_id"] != "user" || m.meta["authz_id"] != "user" || m.meta["tenant"] != "acme" || !strings.Contains(m.content, "with ESMTPA id") {
		t.Errorf("metadata %v, content %q", m.meta, m.content)
	}
	if strings.Contains(h.logs.String(), token("wrong")) {
		t.Error("credentials are logged")
	}
	p := h.greeted()
	p.cmd("AUTH PLAIN "+token("panic"), "421 4.3.0")
	p.ended()
}

func TestAuthNeedsTLS(t *testing.T) {
	cert, pool := certificate(t)
	h := serve(t, &Options{DeferredQueue: true, Auth: Auth{Password: acceptAll}, TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}}})
	c := h.dial()
	c.want("220")
	if caps := c.cmd("EHLO x", "250"); strings.Contains(caps, "AUTH") {
		t.Errorf("AUTH is offered in clear: %q", caps)
	}
	c.cmd("AUTH PLAIN AHgAeA==", "538 5.7.11")
	c = c.startTLS(&tls.Config{RootCAs: pool, ServerName: "mx.example.com"})
	c.cmd("EHLO x", "250")
	c.cmd("AUTH PLAIN AHgAeA==", "235")
}
