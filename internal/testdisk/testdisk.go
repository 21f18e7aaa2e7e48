// Package testdisk makes small file systems for tests that need a full disk.
package testdisk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// tools are the programs that New needs, and the Debian packages that bring
// them.
var tools = map[string]string{"mkfs.ext4": "e2fsprogs", "mount": "mount", "umount": "mount", "losetup": "mount"}

// Available says what New would need that is not there: Linux, root, loop
// devices, and the programs mkfs.ext4, mount, umount and losetup.
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
// options for mkfs.ext4, mounts it, and returns the directory. It is unmounted and deleted when t ends, so that
// every file in it must be closed by then. An error names what is missing.
func New(t testing.TB, mib int64, mkfs ...string) (dir string, err error) {
	t.Helper()
	if err := Available(); err != nil {
		return "", err
	}
	base := t.TempDir()
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "mnt")
	if err := makeImage(image, mib<<20); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("testdisk: %w", err)
	}
	mkfs = append([]string{"-q", "-F", "-m", "0"}, mkfs...)
	if err := run("mkfs.ext4", append(mkfs, image)...); err != nil {
		return "", err
	}
	if err := run("mount", "-o", "loop", image, dir); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := run("umount", dir); err != nil {
			t.Errorf("%v; a file in it is still open?", err)
			_ = run("umount", "-l", dir)
		}
	})
	return dir, nil
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
