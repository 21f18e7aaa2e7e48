package smtpserver

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

var nodeTools = []tool{{"node", "nodejs"}, {"npm", "npm"}}

// nodeClients send by Nodemailer, of the version in testdata/nodemailer.
var nodeClients = []outsideClient{
	nodemailer("nodemailer", outsideClient{}, 1, 1),
	nodemailer("nodemailer, pool", outsideClient{}, 50, 5),
	nodemailer("nodemailer, STARTTLS", outsideClient{security: byStartTLS}, 1, 1),
	nodemailer("nodemailer, TLS, pool", outsideClient{security: implicitTLS}, 50, 5),
	nodemailer("nodemailer, AUTH PLAIN", outsideClient{mechanism: "PLAIN"}, 1, 1),
	nodemailer("nodemailer, STARTTLS, AUTH PLAIN", outsideClient{security: byStartTLS, mechanism: "PLAIN"}, 1, 1),
	nodemailer("nodemailer, AUTH LOGIN", outsideClient{mechanism: "LOGIN"}, 1, 1),
	nodemailer("nodemailer, TLS, AUTH LOGIN", outsideClient{security: implicitTLS, mechanism: "LOGIN"}, 1, 1),
	nodemailer("nodemailer, LMTP", outsideClient{lmtp: true}, 1, 1),
}

// nodemailer sends messages to two recipients each.
func nodemailer(name string, c outsideClient, messages, connections int) outsideClient {
	c.name, c.tools, c.rcpts = name, nodeTools, 2*messages
	c.send = func(tg *target) error {
		task, err := json.Marshal(map[string]any{
			"host": tg.host, "port": tg.port, "lmtp": tg.lmtp, "security": tg.security, "ca": tg.ca,
			"mechanism": tg.mechanism, "user": clientUser, "password": clientPassword,
			"message": tg.message, "messages": messages, "connections": connections,
		})
		if err != nil {
			return err
		}
		dir, err := installNodemailer(tg.dir)
		if err != nil {
			return err
		}
		return run("node", filepath.Join(dir, "send.js"), string(task))
	}
	return c
}

// installNodemailer copies testdata/nodemailer and has npm put the package beside
// it. npm checks its digest, and takes it from its cache when it can.
func installNodemailer(parent string) (dir string, err error) {
	dir = filepath.Join(parent, "nodemailer")
	if err := os.CopyFS(dir, os.DirFS("testdata/nodemailer")); err != nil {
		return "", err
	}
	return dir, run("npm", "ci", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
}

// TestClientsPinned: the package that npm installs is the one whose digest is
// written down.
func TestClientsPinned(t *testing.T) {
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	text, err := os.ReadFile("testdata/nodemailer/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	for name, p := range lock.Packages {
		if name != "" && (p.Version == "" || len(p.Integrity) < len("sha512-")+88) {
			t.Errorf("%s has version %q, digest %q", name, p.Version, p.Integrity)
		}
	}
	if _, ok := lock.Packages["node_modules/nodemailer"]; !ok || len(lock.Packages) != 2 {
		t.Errorf("packages %v, want Nodemailer alone", lock.Packages)
	}
}
