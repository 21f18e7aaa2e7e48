// Package hosttest checks what both programs of examples/existing must do.
package hosttest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/smtp"
	"net/textproto"
	"regexp"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/examples/existing/internal/host"
)

// A Serve is what the programs differ in.
type Serve func(context.Context, net.Listener, *host.Host) error

// Once runs the demonstration with a policy that takes slow, and returns how long
// the 250 took. The output must match pattern.
func Once(t *testing.T, serve Serve, slow time.Duration, pattern string) time.Duration {
	t.Helper()
	var out bytes.Buffer
	args := []string{"-once", "-slow", slow.String(), "-spool", t.TempDir()}
	if err := host.Run(t.Context(), args, &out, serve); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	m := regexp.MustCompile(pattern).FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("the output does not match %q:\n%s", pattern, &out)
	}
	took, err := time.ParseDuration(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return took
}

// Dialogue checks who may send what, with the client of net/smtp.
func Dialogue(t *testing.T, serve Serve) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	h := host.New(&out, t.TempDir(), 0)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, ln, h) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	addr := ln.Addr().String()
	for _, tt := range []struct {
		name, password, from, to string
		code                     int // 0: taken
	}{
		{"wrong password", "xyzzy", host.User, "ada@example.net", 535},
		{"no password", "", host.User, "ada@example.net", 502},
		{"other sender", host.Password, "eve@example.org", "ada@example.net", 550},
		{"other domain", host.Password, host.User, "ada@example.org", 550},
		{"first", host.Password, host.User, "ada@example.net", 0},
		{"second", host.Password, host.User, "grace@example.net", 0},
	} {
		var auth smtp.Auth
		if tt.password != "" {
			auth = smtp.PlainAuth("", host.User, tt.password, "127.0.0.1")
		}
		err := smtp.SendMail(addr, auth, tt.from, []string{tt.to}, []byte("Subject: hello\r\n\r\nHello.\r\n"))
		var refused *textproto.Error
		if tt.code == 0 && err != nil || tt.code != 0 && (!errors.As(err, &refused) || refused.Code != tt.code) {
			t.Errorf("%s: %v, want %d", tt.name, err, tt.code)
		}
	}
	waiting, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	handed, err := h.HandedOn(waiting, 2)
	if err != nil || len(handed) != 2 {
		t.Errorf("handed on: %q, %v", handed, err)
	}
}
