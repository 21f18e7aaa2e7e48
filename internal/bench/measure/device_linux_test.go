package measure

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFindDevice looks in a made-up /sys for what a disk is called.
func TestFindDevice(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(path, target string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, target), path); err != nil {
			t.Fatal(err)
		}
	}
	write("devices/sda/stat", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17")
	write("devices/sda/sda1/partition", "1")
	write("devices/sda/sda1/stat", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0")
	write("devices/sdb/stat", "")
	link("devices/dm-0/slaves/sda1", "devices/sda/sda1") // such as an encrypted partition
	link("devices/dm-1/slaves/dm-0", "devices/dm-0")     // and a volume on it
	link("devices/md0/slaves/sda", "devices/sda")
	link("devices/md0/slaves/sdb", "devices/sdb")
	for number, name := range map[string]string{"8:0": "sda", "8:1": "sda/sda1", "253:0": "dm-0", "253:1": "dm-1", "9:0": "md0"} {
		link("block/"+number, "devices/"+name)
	}
	for number, want := range map[string]string{"8:0": "sda", "8:1": "sda", "253:0": "sda", "253:1": "sda", "9:0": "md0"} {
		d, err := findDevice(filepath.Join(dir, "block"), number)
		if err != nil || d.Name != want {
			t.Errorf("%s is %+v, %v; want %s", number, d, err, want)
			continue
		}
		if traffic, err := d.Traffic(); want == "sda" && (err != nil || traffic != (Traffic{Written: 7 * 512, Flushes: 16})) {
			t.Errorf("%s: %+v, %v", number, traffic, err)
		}
	}
	if d, err := findDevice(filepath.Join(dir, "block"), "0:45"); !os.IsNotExist(err) {
		t.Errorf("no device is %+v, %v", d, err)
	}
}

func TestDeviceOfNothing(t *testing.T) {
	if d, err := DeviceOf("/proc"); err == nil {
		t.Errorf("/proc lies on %+v", d)
	}
	if free, err := Free(t.TempDir()); err != nil || free == 0 {
		t.Errorf("%d bytes are free: %v", free, err)
	}
}
