package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
begin routers
begin transports
`

// startExim starts Exim with a configuration of our own.
func startExim(ctx context.Context, dir string) (server, error) {
	program, err := lookProgram("exim4", "exim")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("bench: starting Exim needs root")
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
	if err := writeFiles(dir, map[string]string{"exim.conf": fmt.Sprintf(eximConfig, dir, port, maxMessage)}); err != nil {
		return nil, err
	}
	clear := func(context.Context) error {
		var errs []error
		for _, pattern := range []string{"input/*", "input/*/*", "msglog/*", "msglog/*/*"} {
			errs = append(errs, removeFiles(filepath.Join(spool, pattern)))
		}
		return errors.Join(errs...)
	}
	return startForeign(ctx, dir, port, clear, program, "-C", config, "-bdf")
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
