package smtpserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// message is what the clients send: lines with dots, a long one, 8 bit, and
// no line at the end that a client could be tempted to mend.
var message = strings.Join([]string{
	"From: sender@example.com", "To: rcpt@example.org", "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=", "MIME-Version: 1.0",
	"Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "",
	".", "..", ".dot", "gr\u00fc\u00dfe", strings.Repeat("x", 998), "", "\ttab and space ", "last", "",
}, "\r\n")

// What the clients authenticate with.
const (
	clientUser     = "user@example.com"
	clientPassword = `p=ss w0rd+"'\/:`
)

// security is how a client protects its connection.
type security string

const (
	inClear     security = "clear"
	byStartTLS  security = "starttls" // RFC 3207
	implicitTLS security = "tls"      // RFC 8314
)

// An outsideClient sends message to rcpts recipients by other code than ours,
// 0@example.org and so on.
type outsideClient struct {
	name      string
	tools     []tool
	security  security // empty: inClear
	mechanism string   // of AUTH; empty: the address is trusted
	user      string   // that is authenticated; empty: clientUser, if there is a mechanism
	lmtp      bool
	rcpts     int
	configure func(*Options)
	send      func(tg *target) error
	check     func(t *testing.T, tg *target, got []*injected) // nil: checkMessage
}

// A tool is a program, and Debian's package of it.
type tool struct{ name, pkg string }

// A target is what a client is told.
type target struct {
	addr, host, port string
	security         security
	mechanism        string
	user             string
	lmtp             bool
	dir              string // for the test alone
	ca               string // the file with the certificate to trust
	roots            *x509.CertPool
	message          string // the file with message
	unended          string // the same without the CRLF at the end, for clients that put one there
}

func (tg *target) setAddr(addr net.Addr) {
	tg.addr = addr.String()
	tg.host, tg.port, _ = net.SplitHostPort(tg.addr)
}

// tlsConfig is for clients written in Go.
func (tg *target) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: tg.roots, ServerName: tg.host}
}

// outsideClients are all of them. Those that need Go alone are always checked.
func outsideClients() []outsideClient {
	var all []outsideClient
	for _, clients := range [][]outsideClient{goClients, swaksClients, pythonClients, nodeClients, sourceClients, proxiedClients} {
		all = append(all, clients...)
	}
	return all
}

// TestClients delivers by code that others wrote.
func TestClients(t *testing.T) {
	for _, c := range outsideClients() {
		if len(c.tools) > 0 && !*long {
			t.Logf("%s is checked with -long only", c.name)
			continue
		}
		t.Run(c.name, c.run)
	}
}

func (c outsideClient) run(t *testing.T) {
	for _, tool := range c.tools {
		if _, err := lookTool(tool.name); err != nil {
			t.Fatalf("%s is not installed: .ci/install brings it (Debian: %s)", tool.name, tool.pkg)
		}
	}
	tg := newTarget(t, &c)
	opts := tg.options(t)
	if c.configure != nil {
		c.configure(opts)
	}
	h := serve(t, opts)
	tg.setAddr(h.l.Addr())
	if err := c.send(tg); err != nil {
		t.Fatalf("%v\n%s", err, h.logs)
	}
	got := make([]*injected, c.rcpts)
	for i := range got {
		got[i] = h.next()
	}
	check := c.check
	if check == nil {
		check = checkMessage
	}
	check(t, tg, got)
	h.stopScheduler()
	h.nothing()
}

// newTarget writes the files.
func newTarget(t *testing.T, c *outsideClient) *target {
	t.Helper()
	tg := &target{security: c.security, mechanism: c.mechanism, user: c.user, lmtp: c.lmtp, dir: t.TempDir()}
	if tg.security == "" {
		tg.security = inClear
	}
	if tg.mechanism != "" {
		tg.user = clientUser
	}
	tg.message, tg.unended = filepath.Join(tg.dir, "message"), filepath.Join(tg.dir, "unended")
	for name, content := range map[string]string{tg.message: message, tg.unended: strings.TrimSuffix(message, "\r\n")} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tg
}

// options are those of the Listener that the client is for.
func (tg *target) options(t *testing.T) *Options {
	t.Helper()
	o := &Options{DeferredQueue: true, LMTP: tg.lmtp}
	if tg.security != inClear {
		var cert tls.Certificate
		cert, tg.roots, tg.ca = serverCertificate(t, tg.dir)
		o.TLS = TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}, Implicit: tg.security == implicitTLS, Require: true}
	}
	if tg.mechanism != "" {
		o.RelayHosts = []netip.Prefix{}
		o.Auth = Auth{AllowPlaintext: tg.security == inClear, Require: true, Password: checkPassword}
	}
	return o
}

func checkPassword(_ context.Context, _ *Session, _, username, password string) error {
	if username == clientUser && password == clientPassword {
		return nil
	}
	return queue.Reject(535, "5.7.8 authentication failed")
}

// serverCertificate makes a certificate, and a file with it that clients can be
// told to trust.
func serverCertificate(t *testing.T, dir string) (cert tls.Certificate, roots *x509.CertPool, file string) {
	t.Helper()
	cert, text, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return cert, roots, file
}

// selfSigned makes a certificate for 127.0.0.1 and mx.example.com, also as PEM.
func selfSigned() (cert tls.Certificate, text []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "mx.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mx.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return cert, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// run runs a program to its end, within a minute.
func run(name string, args ...string) error {
	path, err := lookTool(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// lookTool finds a program, in the directories of the administrator too.
func lookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

// checkMessage compares the content byte by byte, and checks that what is known
// of the session came along.
func checkMessage(t *testing.T, tg *target, got []*injected) {
	rcpts := map[string]int{}
	for _, m := range got {
		if body := m.body(); body != message {
			t.Errorf("content %q, want %q", body, message)
		}
		if m.env.Sender != "sender@example.com" {
			t.Errorf("sender %q", m.env.Sender)
		}
		checkSession(t, tg, m)
		rcpts[m.env.Recipients[0].Address]++
	}
	for i := range got {
		if addr := fmt.Sprintf("%d@example.org", i); rcpts[addr] != 1 {
			t.Errorf("recipient %s got %d messages, want 1", addr, rcpts[addr])
		}
	}
}

// checkSession looks at the trace field and the metadata (RFC 3848 names the
// protocols).
func checkSession(t *testing.T, tg *target, m *injected) {
	t.Helper()
	with := "ESMTP"
	if tg.lmtp {
		with = "LMTP"
	}
	if tg.security != inClear {
		with += "S"
	}
	if tg.user != "" {
		with += "A"
	}
	if trace := strings.TrimSuffix(m.content, m.body()); !strings.Contains(trace, "Received: from ") || !strings.Contains(trace, " with "+with+" id ") {
		t.Errorf("trace fields %q, want with %s", trace, with)
	}
	if m.meta["authn_id"] != tg.user || (m.meta["tls_protocol_version"] != "") != (tg.security != inClear) {
		t.Errorf("metadata %v", m.meta)
	}
}

// TestClientMessage: the message of the clients goes over the wire as it is.
func TestClientMessage(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	c.envelope("a@example.org")
	c.cmd("DATA", "354")
	stuffed := bytes.ReplaceAll([]byte("\r\n"+message), []byte("\r\n."), []byte("\r\n.."))[2:]
	if _, err := (&net.Buffers{stuffed, []byte(".\r\n")}).WriteTo(c.conn); err != nil {
		t.Fatal(err)
	}
	c.want("250")
	if m := h.next(); m.body() != message {
		t.Errorf("content %q", m.body())
	}
}
