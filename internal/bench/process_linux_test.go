package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	s, err := parseStat([]byte("42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5 6"))
	if want := (procStat{42, 7, 127 * clockTick}); err != nil || s != want {
		t.Errorf("%+v, %v; want %+v", s, err, want)
	}
	for _, bad := range []string{"", "42", "42 (a", ") 42 (", "42 (a) S 7 1", "x (a) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5 6"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := parseStat(data); err == nil && s.pid == 0 && data[0] != '0' && data[0] != ' ' && data[0] != '-' && data[0] != '+' {
			t.Errorf("%q is process 0", data)
		}
	})
}

func TestDescends(t *testing.T) {
	stats := map[int]procStat{5: {pid: 5, parent: 1}, 6: {pid: 6, parent: 5}, 7: {pid: 7, parent: 6}, 8: {pid: 8, parent: 9}, 9: {pid: 9, parent: 8}}
	for pid, want := range map[int]bool{5: true, 6: true, 7: true, 8: false, 3: false} {
		if descends(stats, pid, 5) != want {
			t.Errorf("process %d descends from 5: want %v", pid, want)
		}
	}
}

// TestTreeCPU lets a shell and a child of it, which ends, compute for a while.
func TestTreeCPU(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; echo; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cpu, err := treeCPU(cmd.Process.Pid)
	if err != nil || cpu <= 0 {
		t.Errorf("%v, %v: the child that ended is missing", cpu, err)
	}
	in.Close()
	cmd.Wait()
	if _, err := treeCPU(cmd.Process.Pid); err == nil {
		t.Error("a process that has ended has CPU")
	}
}

func TestOwnUsage(t *testing.T) {
	before, err := ownUsage()
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; {
		if _, err := os.ReadFile("/proc/self/io"); err != nil {
			t.Fatal(err)
		}
		u, err := ownUsage()
		if err != nil {
			t.Fatal(err)
		}
		if u = u.since(before); u.CPU > 0 && u.Allocs > 0 && u.AllocBytes > 0 && u.Reads > 0 {
			return
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("used %+v in 10 s", u)
		}
	}
}
