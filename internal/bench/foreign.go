package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// foreignServers are other people's servers, by the names of the subjects. Each
// is started in a directory of its own and keeps running.
var foreignServers = map[string]func(ctx context.Context, dir, unpacked string) (server, error){
	"postfix": startPostfix,
	"exim":    startExim,
}

// lookProgram finds one of some programs, in the directories of the administrator too.
func lookProgram(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", &absentError{names[0] + " is not installed"}
}

// freePort returns a port of loopback that nobody listens on.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("bench: looking for a port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// A foreignServer is a daemon in the foreground, and its descendants.
type foreignServer struct {
	cmd     *exec.Cmd
	out     *tail
	address string
	dir     string
	version string
	clear   func(ctx context.Context) error
	ended   chan error
}

// startForeign starts the daemon and waits until it greets.
func startForeign(ctx context.Context, dir string, port int, clear func(context.Context) error, cmd *exec.Cmd) (*foreignServer, error) {
	s := &foreignServer{
		cmd: cmd, out: &tail{}, dir: dir, clear: clear,
		address: fmt.Sprintf("127.0.0.1:%d", port), ended: make(chan error, 1),
	}
	s.cmd.SysProcAttr = endWithParent()
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.WaitDelay = grace
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: starting %s: %w", cmd.Path, err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	if err := s.awaitGreeting(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// awaitGreeting polls, because a daemon does not tell when it listens.
func (s *foreignServer) awaitGreeting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*grace)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := dialClient(s.address, modePlain, time.Now().Add(grace))
		if err == nil {
			c.quit()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bench: %s does not greet: %w %s", s.cmd.Path, err, s.out)
		case err := <-s.ended:
			s.ended <- err
			return fmt.Errorf("bench: %s has ended: %w %s", s.cmd.Path, err, s.out)
		case <-tick.C:
		}
	}
}

func (s *foreignServer) addr() string { return s.address }

func (s *foreignServer) usage() (u usage, err error) {
	u.CPU, err = treeCPU(s.cmd.Process.Pid)
	return u, err
}

func (s *foreignServer) clean(ctx context.Context) error { return s.clear(ctx) }

// stop ends the daemon, which ends its children, and deletes its directory.
func (s *foreignServer) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("bench: ending %s: %w", s.cmd.Path, err)
	}
	timer := time.AfterFunc(grace, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	<-s.ended // how it ended is of no interest
	endGroup(s.cmd.Process.Pid)
	return os.RemoveAll(s.dir)
}

// chownTo gives path to the first of the users that is there.
func chownTo(path string, names ...string) error {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return fmt.Errorf("bench: the user %s: %w", name, err)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return fmt.Errorf("bench: the group of %s: %w", name, err)
		}
		return os.Chown(path, uid, gid)
	}
	return &absentError{fmt.Sprintf("there is no user %s: useradd --system --no-create-home %[1]s makes it", names[0])}
}
