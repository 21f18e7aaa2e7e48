package measure

import "testing"

func TestFindMount(t *testing.T) {
	mounts := []byte(`1 0 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
2 1 0:20 / /tmp rw - tmpfs tmpfs rw
3 1 0:21 / /tmp/a\040disk rw master:1 shared:2 - xfs /dev/vdb rw
4 1 0:22 / /mnt rw - xfs /dev/vdc rw
5 4 0:23 / /mnt rw - ramfs none rw
nonsense
`)
	for path, want := range map[string]string{"/": "ext4", "/tmpfile": "ext4", "/tmp": "tmpfs", "/tmp/x": "tmpfs", "/tmp/a disk/x": "xfs", "/tmp/a": "tmpfs", "/mnt/x": "ramfs"} {
		if got := findMount(mounts, path); got != want {
			t.Errorf("%s lies on %q, want %s", path, got, want)
		}
	}
	if got := findMount(nil, "/"); got != "" {
		t.Errorf("without any: %q", got)
	}
}
