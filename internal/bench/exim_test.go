package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestEximVersion(t *testing.T) {
	if got := eximVersion("Exim version 4.96 #2 built 13-Jul-2025 10:35:57\nCopyright (c) University of Cambridge\n"); got != "4.96" {
		t.Errorf("version %q, want 4.96", got)
	}
	if got := eximVersion("something else"); got != "" {
		t.Errorf("something else has version %q", got)
	}
}

// TestUnpackedExim: what lies in a directory is run with the libraries beside it, and
// what is not there is an error that names the flag.
func TestUnpackedExim(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := findExim(dir); err == nil || !strings.Contains(err.Error(), "-exim") {
		t.Errorf("an empty directory: %v", err)
	}
	libraries := filepath.Join(dir, "usr/lib/x86_64-linux-gnu")
	want := filepath.Join(dir, "usr/sbin/exim4")
	for _, d := range []string{libraries, filepath.Dir(want)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(want, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	program, env, err := findExim(dir)
	if err != nil || program != want || !slices.Contains(env, "LD_LIBRARY_PATH="+libraries) {
		t.Errorf("%q, %v; the last of its environment: %q", program, err, env[max(0, len(env)-1):])
	}
}
