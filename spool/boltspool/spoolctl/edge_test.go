package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestExportKeeps: no file that is there is overwritten.
func TestExportKeeps(t *testing.T) {
	dir, _ := testSpool(t)
	to := tempDir(t)
	name := filepath.Join(to, id(1).String()+".json")
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := call(t, "export", dir, "-to", to, "-queue", "inbox")
	r.want(t, exitLeft, "1 messages, 46 bytes, are in "+to+"; 1 could not be exported")
	if b, err := os.ReadFile(name); err != nil || string(b) != "mine" {
		t.Errorf("the file that was there says %.40q, error %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(to, id(1).String()+".eml")); err == nil {
		t.Error("there is the other file of the message")
	}
}
