package smtpserver

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// postfixPatience is how long Postfix may take: it syncs each message to disk,
// and waits two seconds before it tries again.
const postfixPatience = 2 * time.Minute

// A postfix is an instance of Postfix of its own, with the Listener as its relay
// host.
type postfix struct {
	addr string // where it takes messages
	dir  string
}

// startPostfix starts Postfix, and stops it at the end of the test. It needs
// root, as Postfix does.
func startPostfix(t *testing.T, tg *target) *postfix {
	t.Helper()
	master, err := postfixMaster()
	if err != nil {
		t.Fatal(err)
	}
	p := &postfix{dir: t.TempDir()}
	if err := p.configure(tg); err != nil {
		t.Fatal(err)
	}
	if err := run("postfix", "-c", p.path("etc"), "check"); err != nil { // makes its directories
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(master, "-c", p.path("etc"), "-d")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, patience
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // master passes it on
		cmd.Wait()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if t.Failed() {
			log, _ := os.ReadFile(p.path("log"))
			t.Logf("Postfix: %s\n%s", &out, log)
		}
	})
	p.await(t)
	return p
}

func postfixMaster() (string, error) {
	if os.Getuid() != 0 {
		return "", fmt.Errorf("postfix cannot be started: it needs root, as .ci/run has it")
	}
	postconf, err := lookTool("postconf")
	if err != nil {
		return "", fmt.Errorf("postfix is not installed: .ci/install brings it (Debian: postfix): %w", err)
	}
	out, err := exec.Command(postconf, "-h", "daemon_directory").Output()
	if err != nil {
		return "", fmt.Errorf("postconf: %w", err)
	}
	return exec.LookPath(filepath.Join(strings.TrimSpace(string(out)), "master"))
}

func (p *postfix) path(name string) string { return filepath.Join(p.dir, name) }

// await waits until the first message can be sent.
func (p *postfix) await(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(postfixPatience); ; {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			c := newClient(t, conn)
			c.want("220")
			c.cmd("QUIT", "221")
			return
		}
		if time.Now().After(end) {
			t.Fatalf("Postfix does not listen: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // nothing else tells
	}
}

// awaitEmpty waits until Postfix has nothing more to send.
func (p *postfix) awaitEmpty(t *testing.T) {
	t.Helper()
	postqueue, err := lookTool("postqueue")
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(postfixPatience); ; {
		out, err := exec.Command(postqueue, "-c", p.path("etc"), "-p").CombinedOutput()
		if err == nil && strings.Contains(string(out), "Mail queue is empty") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("Postfix still has messages: %v\n%s", err, out)
		}
		time.Sleep(50 * time.Millisecond) // nothing else tells
	}
}

// configure writes main.cf and master.cf.
func (p *postfix) configure(tg *target) error {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return err
	}
	if p.addr, err = freeAddr(); err != nil {
		return err
	}
	// Postfix's own users have to get through the directories of the test.
	for _, dir := range []string{filepath.Dir(p.dir), p.dir} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"etc", "queue", "data"} {
		if err := os.Mkdir(p.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chown(p.path("data"), uid, -1); err != nil {
		return err
	}
	return writeFiles(map[string]string{
		p.path("etc/main.cf"):   fmt.Sprintf(postfixMain, p.dir, tg.host, tg.port) + postfixTLS(tg),
		p.path("etc/master.cf"): p.addr + postfixServices,
	})
}

func writeFiles(files map[string]string) error {
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// freeAddr is an address on loopback that was free just now.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// postfixTLS makes Postfix insist on TLS and on the certificate.
func postfixTLS(tg *target) string {
	if tg.security == inClear {
		return "smtp_tls_security_level = none\n"
	}
	return fmt.Sprintf("smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = mx.example.com\nsmtp_tls_CAfile = %s\nsmtp_tls_wrappermode = %s\n",
		tg.ca, map[bool]string{true: "yes", false: "no"}[tg.security == implicitTLS])
}

const postfixMain = `
compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
relayhost = [%[2]s]:%[3]s
myhostname = relay.example.com
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
message_size_limit = 30000000
smtp_host_lookup = native
# Retries are soon; but a message that is due while its last delivery is still
# being written down waits for a minute.
queue_run_delay = 1s
minimal_backoff_time = 2s
maximal_backoff_time = 2s
transport_retry_time = 1s
service_throttle_time = 1s
`

const postfixServices = ` inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
