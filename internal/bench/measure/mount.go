package measure

import (
	"strings"
)

// unescape is what stands in /proc/self/mountinfo for what would separate fields.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// findMount returns the type of the file system that path lies on (proc(5),
// /proc/pid/mountinfo): the one with the longest mount point above it, and of
// several on one point the last.
func findMount(mountinfo []byte, path string) (name string) {
	longest := -1
	for line := range strings.Lines(string(mountinfo)) {
		mount, super, ok := strings.Cut(line, " - ")
		fields, types := strings.Fields(mount), strings.Fields(super)
		if !ok || len(fields) < 5 || len(types) < 1 {
			continue
		}
		point := unescape.Replace(fields[4])
		if len(point) >= longest && (path == point || strings.HasPrefix(path, strings.TrimSuffix(point, "/")+"/")) {
			longest, name = len(point), types[0]
		}
	}
	return name
}
