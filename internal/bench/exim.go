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

// eximConfig only stores (queue_only).
const eximConfig = `primary_hostname = exim.example
spool_directory = %[1]s/spool
log_file_path = syslog
queue_only
local_interfaces = 127.0.0.1
daemon_smtp_ports = %[2]d
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
recipients_max = 2000
message_size_limit = %[3]d
host_lookup =
rfc1413_hosts =
check_spool_space = 0
check_spool_inodes = 0
acl_smtp_rcpt = accept
acl_smtp_data = accept
chunking_advertise_hosts = *
pipelining_advertise_hosts = *
never_users =
keep_environment =
exim_path = %[4]s
begin routers
begin transports
`

// findExim finds the program, in unpacked first if that is not empty, and what its
// environment needs then.
func findExim(unpacked string) (program string, env []string, err error) {
	if unpacked == "" {
		program, err = lookProgram("exim4", "exim")
		return program, nil, err
	}
	if unpacked, err = filepath.Abs(unpacked); err != nil {
		return "", nil, err
	}
	program = filepath.Join(unpacked, "usr/sbin/exim4")
	if _, err := os.Stat(program); err != nil {
		return "", nil, fmt.Errorf("bench: -exim: %w", err)
	}
	libraries, err := filepath.Glob(filepath.Join(unpacked, "usr/lib/*-linux-*"))
	return program, append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":")), err
}

// startExim starts Exim with a configuration of our own.
func startExim(ctx context.Context, dir, unpacked string) (server, error) {
	program, env, err := findExim(unpacked)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, &absentError{"starting Exim needs root"}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config, spool := filepath.Join(dir, "exim.conf"), filepath.Join(dir, "spool")
	if err := os.Mkdir(spool, 0o755); err != nil {
		return nil, err
	}
	if err := chownTo(spool, "Debian-exim", "exim", "mail"); err != nil {
		return nil, err
	}
	if err := writeFiles(dir, map[string]string{"exim.conf": fmt.Sprintf(eximConfig, dir, port, maxMessage, program)}); err != nil {
		return nil, err
	}
	clear := func(context.Context) error {
		var errs []error
		for _, pattern := range []string{"input/*", "input/*/*", "msglog/*", "msglog/*/*"} {
			errs = append(errs, removeFiles(filepath.Join(spool, pattern)))
		}
		return errors.Join(errs...)
	}
	cmd := exec.Command(program, "-C", config, "-bdf")
	cmd.Env = env
	about := exec.CommandContext(ctx, program, "-bV")
	about.Env = env
	said, err := about.Output()
	if err != nil {
		return nil, fmt.Errorf("bench: asking %s for its version: %w", program, err)
	}
	s, err := startForeign(ctx, dir, port, clear, cmd)
	if err != nil {
		return nil, err
	}
	s.version = eximVersion(string(said))
	return s, nil
}

// eximVersion reads what exim -bV says: "Exim version 4.96 #2 built ...".
func eximVersion(said string) string {
	_, rest, _ := strings.Cut(said, "Exim version ")
	version, _, _ := strings.Cut(rest, " ")
	return version
}

// removeFiles deletes the files that pattern matches, and no directories.
func removeFiles(pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}
