package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// A sourceResult is what smtp-source, the load generator of Postfix, measured of
// the same circumstances.
type sourceResult struct {
	Rate float64 // messages a second
	CPU  float64 // of the server per message, in microseconds
}

// runSource sends that many messages by smtp-source. It does not pipeline, and
// opening its sessions counts too.
func runSource(ctx context.Context, srv server, c cell, messages int) (*sourceResult, error) {
	program, err := lookProgram("smtp-source")
	if err != nil {
		return nil, err
	}
	messages = max(messages, c.Sessions)
	before, err := srv.usage()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, program, "-d", "-s", strconv.Itoa(c.Sessions), "-m", strconv.Itoa(messages),
		"-l", strconv.Itoa(c.Size), "-r", strconv.Itoa(c.Recipients),
		"-f", "sender@example.com", "-t", "rcpt@example.org", srv.addr())
	cmd.SysProcAttr = dieWithParent()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bench: smtp-source: %w %s", err, out)
	}
	elapsed := time.Since(begin)
	after, err := srv.usage()
	if err != nil {
		return nil, err
	}
	n := float64(messages)
	return &sourceResult{Rate: n / elapsed.Seconds(), CPU: float64(after.since(before).CPU.Nanoseconds()) / 1e3 / n}, nil
}
