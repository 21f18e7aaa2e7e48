package boltspool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A dirState is what a directory holds.
type dirState map[string]string

// snapshot takes note of all that is in a directory, with contents, modes and times.
func snapshot(t *testing.T, dir string) dirState {
	t.Helper()
	state := dirState{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var contents []byte
		if !d.IsDir() {
			if contents, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		state[strings.TrimPrefix(name, dir)] = fmt.Sprint(info.Mode(), info.ModTime().Format(time.RFC3339Nano), info.Size(), " ") + string(contents)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// diff names what differs.
func (a dirState) diff(b dirState) string {
	var names []string
	for name := range a {
		if b[name] != a[name] {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name+" (new)")
		}
	}
	return strings.Join(names, ", ")
}
