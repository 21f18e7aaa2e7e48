// Package host is what the two programs of examples/existing have in common: all
// that a mail service has around its SMTP server.
package host

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"
)

// The one customer.
const (
	User     = "app@example.com"
	Password = "open sesame"
)

const maxRecipients = 100

// A Host is a mail service without its SMTP server. Its methods are safe for
// concurrent use.
type Host struct {
	Spool string        // a directory
	Slow  time.Duration // what the policy takes for each message

	mu struct {
		sync.Mutex
		out    io.Writer
		handed []string
		more   chan struct{} // closed at the next hand-over
	}
}

// New returns a Host that tells out what it does.
func New(out io.Writer, dir string, slow time.Duration) *Host {
	h := &Host{Spool: dir, Slow: slow}
	h.mu.out, h.mu.more = out, make(chan struct{})
	return h
}

// Knows reports whether these are the credentials of a customer.
func (h *Host) Knows(user, password string) bool {
	return user == User && subtle.ConstantTimeCompare([]byte(password), []byte(Password)) == 1
}

// Refuse returns the reply that refuses a recipient, nil for one that is served.
// n is how many the message has already.
func (h *Host) Refuse(from, to string, n int) error {
	switch {
	case n == maxRecipients:
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 5, 3}, Message: "too many recipients"}
	case from != User || !strings.HasSuffix(to, "@example.net"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "no route for this mail"}
	}
	return nil
}

// Process looks the key of the user up, signs, and hands on. It takes its time.
func (h *Host) Process(ctx context.Context, user, from string, to []string, content []byte) error {
	select {
	case <-time.After(h.Slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(content) == 0 {
		return errors.New("host: there is nothing to sign")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	line := fmt.Sprintf("%s as %s to %s, %d octets", from, user, strings.Join(to, " and "), len(content))
	h.mu.handed = append(h.mu.handed, line)
	fmt.Fprintln(h.mu.out, "signed and handed on:", line)
	close(h.mu.more)
	h.mu.more = make(chan struct{})
	return nil
}

func (h *Host) say(words ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintln(h.mu.out, words...)
}

// HandedOn waits until n messages were handed on, and returns them.
func (h *Host) HandedOn(ctx context.Context, n int) ([]string, error) {
	for {
		h.mu.Lock()
		handed, more := h.mu.handed, h.mu.more
		h.mu.Unlock()
		if len(handed) >= n {
			return handed, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return handed, ctx.Err()
		}
	}
}

// Run is the program around serve, which serves ln until ctx is done, and stops
// then. With -once it sends itself a message and ends when that was handed on.
func Run(ctx context.Context, args []string, out io.Writer, serve func(context.Context, net.Listener, *Host) error) error {
	fs := flag.NewFlagSet("existing", flag.ContinueOnError)
	fs.SetOutput(out)
	once := fs.Bool("once", false, "end after the demonstration")
	addr := fs.String("addr", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	dir := fs.String("spool", filepath.Join(cache(), "deferredqueue-existing"), "directory of the spool, if the program has one")
	slow := fs.Duration("slow", time.Second, "how long the policy takes for each message")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("existing: %w", err)
	}
	defer ln.Close() // if serve does not
	h := New(out, *dir, *slow)
	h.say("SMTP on", ln.Addr())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, ln, h)
		cancel()
	}()
	err = h.demonstrate(ctx, ln.Addr().String())
	if err == nil && !*once {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		err = nil // stopped on the way
	}
	cancel()
	return errors.Join(err, <-served)
}

// cache is a directory of the user's that survives a restart.
func cache() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return dir
	}
	return os.TempDir()
}

// demonstrate sends a message, shows how long its reply took, and waits for it.
func (h *Host) demonstrate(ctx context.Context, addr string) error {
	took, err := h.send(addr)
	if err != nil {
		return fmt.Errorf("existing: sending to %s: %w", addr, err)
	}
	h.say("250 after", took.Round(time.Millisecond))
	_, err = h.HandedOn(ctx, 1)
	return err
}

// Main is the main function of both programs.
func Main(serve func(context.Context, net.Listener, *Host) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := Run(ctx, os.Args[1:], os.Stdout, serve); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
