package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

var long = flag.Bool("long", false, "verify with dkimpy, too")

// TestOnce runs the program.
func TestOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(newRSA(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	var out buffer
	if err := run(context.Background(), []string{"-once", "-addr", "127.0.0.1:0", "-spool", filepath.Join(dir, "spool"), "-key", file}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"queue spring:acme@example.net, DKIM-Signature: a=rsa-sha256", "hold: tenant newcomer", "no tenant \"nobody\"", "not of a domain of tenant acme"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if err := run(context.Background(), []string{"-key", filepath.Join(dir, "none")}, &out); err == nil {
		t.Error("a key that is not there was taken")
	}
}

// A buffer is written to by many.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestDkimpy: another implementation finds the signature valid, and invalid once
// something was changed.
func TestDkimpy(t *testing.T) {
	if !*long {
		t.Log("short form: go-msgauth verifies in the other tests; with -long dkimpy does")
		return
	}
	const python = "/usr/bin/python3" // Debian's, which has Debian's packages
	if out, err := exec.Command(python, "-c", "import dkim, nacl").CombinedOutput(); err != nil {
		t.Fatalf("%v: install Debian's packages python3-dkim and python3-nacl\n%s", err, out)
	}
	for _, name := range []string{"rsa", "ed25519"} {
		a := acme(t)
		if name == "rsa" {
			a.key.private = newRSA(t)
		}
		var text string
		synctest.Test(t, func(t *testing.T) {
			srv, sent := serve(t, static{"acme": a}, nil)
			if err := srv.Send("news@acme.example", to, news); err != nil {
				t.Fatal(err)
			}
			text = sent.all()[0].text
		})
		// The bubble's clock is that of the year 2000; dkimpy does not mind.
		record, value, err := a.key.record()
		if err != nil {
			t.Fatal(err)
		}
		for changed, want := range map[bool]string{false: "True", true: "False"} {
			msg := text
			if changed {
				msg = strings.Replace(text, "Hello.", "Hallo.", 1)
			}
			cmd := exec.Command(python, "testdata/verify.py", record+".", value)
			cmd.Stdin = strings.NewReader(msg)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != want {
				t.Errorf("%s, changed %v: dkimpy says %q, %v", name, changed, out, err)
			}
		}
	}
}
