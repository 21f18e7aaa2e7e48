// Package testdisk makes small file systems on loop devices for tests: of a full
// disk, and of a disk whose power is cut.
package testdisk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// tools are the programs that New needs, and the Debian packages that bring
// them; powerTools are those that NewPower needs besides.
var (
	tools = map[string]string{
		"mkfs.ext4": "e2fsprogs", "mount": "mount", "umount": "mount", "losetup": "mount", "setsid": "util-linux",
	}
	powerTools = map[string]string{"mkfs.xfs": "xfsprogs", "cp": "coreutils"}
)

// Available says what New would need that is not there: Linux, root, loop
// devices, and the programs mkfs.ext4, mount, umount, losetup and setsid.
func Available() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("testdisk: needs loop devices of Linux, and this is %s", runtime.GOOS)
	}
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("testdisk: needs root, to mount a file system"))
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		errs = append(errs, fmt.Errorf("testdisk: needs loop devices: %w", err))
	}
	return errors.Join(append(errs, missing(tools))...)
}

func missing(tools map[string]string) error {
	var errs []error
	for name, pkg := range tools {
		if _, err := look(name); err != nil {
			errs = append(errs, fmt.Errorf("testdisk: needs %s, of Debian's package %s", name, pkg))
		}
	}
	return errors.Join(errs...)
}

// look finds a program, in the directories of the administrator too.
func look(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// New makes an ext4 file system of that many MiB on a loop device, with further
// options for mkfs.ext4, mounts it, and returns the directory. It is unmounted
// and deleted when t ends, so that every file in it must be closed by then; if
// the process dies before, too. An error names what is missing.
func New(t testing.TB, mib int64, mkfs ...string) (dir string, err error) {
	t.Helper()
	if err := Available(); err != nil {
		return "", err
	}
	m, err := newMounts(t)
	if err != nil {
		return "", err
	}
	image, dir := filepath.Join(m.base, "image"), filepath.Join(m.base, "mnt")
	if err := makeExt4(image, mib, mkfs...); err != nil {
		return "", err
	}
	return dir, m.mount(dir, "-o", "loop", image)
}

func makeExt4(image string, mib int64, mkfs ...string) error {
	if err := makeImage(image, mib<<20); err != nil {
		return err
	}
	return run("mkfs.ext4", append(append([]string{"-q", "-F", "-m", "0"}, mkfs...), image)...)
}

func makeImage(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("testdisk: %w", err)
	}
	err = f.Truncate(size)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return fmt.Errorf("testdisk: %w", err)
	}
	return nil
}

// mounts are what is mounted below base, and ends with the test.
type mounts struct {
	t    testing.TB
	base string
	dirs []string // in the order in which they were mounted
}

// newMounts starts a janitor as well: a shell that awaits the end of this
// process, however it comes, to do then what is left to do.
func newMounts(t testing.TB) (*mounts, error) {
	m := &mounts{t: t, base: t.TempDir()}
	const script = `trap '' HUP INT QUIT TERM; cat >/dev/null
while mnt=$(tac /proc/self/mounts | cut -d' ' -f2 | grep -m1 -F "$1/"); do umount -l "$mnt" || exit; done
rm -rf --one-file-system "$1"
rmdir "${1%/*}" 2>/dev/null || :`
	path, err := look("setsid") // else a signal to the process group would end it
	if err != nil {
		return nil, fmt.Errorf("testdisk: setsid: %w", err)
	}
	janitor := exec.Command(path, "sh", "-c", script, "janitor", m.base)
	alive, err := janitor.StdinPipe()
	if err == nil {
		err = janitor.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("testdisk: %w", err)
	}
	t.Cleanup(func() { m.close(janitor, alive) })
	return m, nil
}

func (m *mounts) close(janitor *exec.Cmd, alive io.Closer) {
	for len(m.dirs) > 0 {
		if err := m.unmount(m.dirs[len(m.dirs)-1]); err != nil {
			m.t.Errorf("%v; a file in it is still open?", err)
		}
	}
	alive.Close()
	if err := janitor.Wait(); err != nil {
		m.t.Errorf("testdisk: what was mounted below %s may still be: %v", m.base, err)
	}
}

// mount makes the directory dir and mounts something there.
func (m *mounts) mount(dir string, args ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("testdisk: %w", err)
	}
	if err := run("mount", append(args, dir)...); err != nil {
		return err
	}
	m.dirs = append(m.dirs, dir)
	return nil
}

// unmount also gives up what is still in use, and says so.
func (m *mounts) unmount(dir string) error {
	m.dirs = slices.DeleteFunc(m.dirs, func(d string) bool { return d == dir })
	err := run("umount", dir)
	if err != nil {
		_ = run("umount", "-l", dir)
	}
	return err
}

func run(name string, args ...string) error {
	path, err := look(name)
	if err != nil {
		return fmt.Errorf("testdisk: %s: %w", name, err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("testdisk: %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
