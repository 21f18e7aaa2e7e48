package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// postfixMain is main.cf of an instance that puts everything on hold: it is
// stored and synced as usual, and the queue manager leaves it alone.
const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
myhostname = postfix.example
mydestination =
local_recipient_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_restrictions = check_client_access static:HOLD
smtpd_recipient_limit = 2000
smtpd_client_connection_count_limit = 0
default_process_limit = 500
message_size_limit = %[2]d
mailbox_size_limit = 0
`

const postfixMaster = `127.0.0.1:%d inet n - n - 500 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
`

// startPostfix starts an instance of Postfix.
func startPostfix(ctx context.Context, dir, _ string) (server, error) {
	program, err := lookProgram("postfix")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, &absentError{"starting Postfix needs root"}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	etc := filepath.Join(dir, "etc")
	if err := errors.Join(os.Mkdir(etc, 0o755), os.Mkdir(filepath.Join(dir, "spool"), 0o755), os.Mkdir(filepath.Join(dir, "data"), 0o755)); err != nil {
		return nil, err
	}
	if err := chownTo(filepath.Join(dir, "data"), "postfix"); err != nil {
		return nil, err
	}
	if err := writeFiles(etc, map[string]string{
		"main.cf":   fmt.Sprintf(postfixMain, dir, maxMessage),
		"master.cf": fmt.Sprintf(postfixMaster, port),
	}); err != nil {
		return nil, err
	}
	postsuper, err := lookProgram("postsuper")
	if err != nil {
		return nil, err
	}
	clear := func(ctx context.Context) error { return output(ctx, postsuper, "-c", etc, "-d", "ALL") }
	if err := output(ctx, program, "-c", etc, "check"); err != nil { // makes the directories
		return nil, err
	}
	postconf, err := lookProgram("postconf")
	if err != nil {
		return nil, err
	}
	said, err := exec.CommandContext(ctx, postconf, "-c", etc, "-h", "daemon_directory", "mail_version").Output()
	if err != nil {
		return nil, fmt.Errorf("bench: asking postconf: %w", err)
	}
	where, version, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	s, err := startForeign(ctx, dir, port, clear, exec.Command(filepath.Join(where, "master"), "-c", etc, "-s"))
	if err != nil {
		return nil, err
	}
	s.version = version
	return s, nil
}

// output runs a program that should say nothing.
func output(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("bench: %s %s: %w %s", program, strings.Join(args, " "), err, out)
	}
	return nil
}

func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
