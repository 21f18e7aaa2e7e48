package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestExport(t *testing.T) {
	dir, bodies := testSpool(t)
	to := filepath.Join(tempDir(t), "a", "out")
	call(t, "export", dir, "-to", to).want(t, exitFine, "4 messages, 2097296 bytes, are in "+to)
	checkExport(t, dir, to, bodies, 1, 2, 3, 4)

	r := call(t, "export", dir, "-to", to, "-queue", "inbox")
	r.want(t, exitLeft, "0 messages, 0 bytes, are in "+to+"; 2 could not be exported")
	r.wantError(t, id(1).String()+".eml is there already", id(2).String()+".eml is there already")

	to = filepath.Join(tempDir(t), "some")
	call(t, "export", dir, "-to", to, "-state", "queued").want(t, exitFine, "2 messages, 114 bytes, are in "+to)
	checkExport(t, dir, to, bodies, 1, 2)

	to = filepath.Join(tempDir(t), "ids")
	r = callWith(t.Context(), id(2).String()+" "+id(8).String()+"\n", "export", dir, id(4).String(), "-", "-to", to)
	r.want(t, exitLeft, "2 messages, 2097198 bytes, are in "+to+"; 1 could not be exported")
	r.wantError(t, "message "+id(8).String()+": there is no such message")
	checkExport(t, dir, to, bodies, 2, 4)

	call(t, "export", dir, "-to", "-", id(3).String()).want(t, exitFine, "Subject: TWO\r\nX: y\r\n\r\nBounce\r\n")

	t.Chdir(tempDir(t))
	call(t, "export", dir, id(1).String()).want(t, exitFine, "1 messages, 68 bytes, are in spool-export")
	checkExport(t, dir, "spool-export", bodies, 1)
}

// checkExport compares what was exported with what is stored.
func checkExport(t *testing.T, dir, to string, bodies map[spool.ID][]byte, numbers ...int) {
	t.Helper()
	want := map[string]bool{}
	s := openSpool(t, dir)
	entries := map[spool.ID]*spool.Entry{}
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		entries[e.ID] = e
	}
	s.Close()
	for _, n := range numbers {
		name := filepath.Join(to, id(n).String())
		want[id(n).String()+".eml"], want[id(n).String()+".json"] = true, true
		e := entries[id(n)]
		content, err := os.ReadFile(name + ".eml")
		if err != nil || !bytes.Equal(content, append(bytes.Clone(e.Header), bodies[e.Body][e.Skip:]...)) {
			t.Errorf("message %d: %d bytes, error %v, which are not its content", n, len(content), err)
		}
		about, err := os.ReadFile(name + ".json")
		if shown := call(t, "show", dir, "-json", id(n).String()); err != nil || string(about) != shown.out {
			t.Errorf("message %d: its JSON is\n%s\nerror %v, and show -json says\n%s", n, about, err, shown.out)
		}
	}
	files, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); !want[f.Name()] || err != nil || info.Mode() != 0o600 {
			t.Errorf("file %s, wanted %v, mode %v, error %v", f.Name(), want[f.Name()], info.Mode(), err)
		}
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o700 || len(files) != len(want) {
		t.Errorf("%d files in a directory of mode %v, error %v, want %d", len(files), info.Mode(), err, len(want))
	}
}

func TestExportDamage(t *testing.T) {
	dir, bodies := testSpool(t)
	body4 := bodyOf(t, dir, 4)
	whole := filepath.Join(tempDir(t), "whole")
	call(t, "export", dir, "-to", whole, id(1).String(), id(2).String())
	checkExport(t, dir, whole, bodies, 1, 2)
	spoil(t, dir, "0123456789abcde\n")
	spoil(t, dir, "caf\xe9@")
	to := filepath.Join(tempDir(t), "out")
	r := call(t, "export", dir, "-to", to)
	r.want(t, exitLeft, "2 messages, 114 bytes, are in "+to+"; 1 could not be exported")
	r.wantError(t, "damaged: entry "+id(3).String(), "message "+id(4).String()+": body "+body4+": wrong checksum")
	files, err := os.ReadDir(to)
	if err != nil || len(files) != 5 {
		t.Errorf("%v, error %v, want two files of two messages, and one of that whose body is damaged", files, err)
	}
	about, err := os.ReadFile(filepath.Join(to, id(4).String()+".json"))
	if err != nil || !strings.Contains(string(about), `"address":"e@example.net"`) || !strings.Contains(string(about), `"damage":"body `) {
		t.Errorf("of a message whose body is damaged there is %s, error %v", about, err)
	}
	r = call(t, "export", dir, "-to", tempDir(t), id(3).String())
	if r.code != exitLeft || !strings.Contains(r.out, "0 messages, 0 bytes") || !strings.Contains(r.out, "1 could not be exported") {
		t.Errorf("export of a damaged message: %+v", r)
	}
	if r := call(t, "export", dir, "-to", "-", id(4).String()); r.code != exitLeft {
		t.Errorf("export of a damaged body to standard output: %d", r.code)
	}
}

// contents returns all that is in a spool, but for what a copy may change.
func contents(t *testing.T, dir string) map[spool.ID]spool.Entry {
	t.Helper()
	s := openSpool(t, dir)
	defer s.Close()
	all := map[spool.ID]spool.Entry{}
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Error(err)
			continue
		}
		b, err := s.Open(t.Context(), e.Body)
		if err != nil {
			t.Error(err)
			continue
		}
		var text bytes.Buffer
		if _, err := text.ReadFrom(b); err != nil {
			t.Error(err)
		}
		b.Close()
		c := *e.Clone()
		c.Rev, c.Body, c.Header = 0, spool.ID{}, append(c.Header, text.Bytes()...)
		all[e.ID] = c
	}
	return all
}

func TestCopy(t *testing.T) {
	from, _ := testSpool(t)
	want := contents(t, from)
	to := filepath.Join(tempDir(t), "to")
	const copied = "4 messages copied, with 3 bodies of 2097205 bytes; 0 were there already"
	call(t, "copy", from, to).want(t, exitFine, copied)
	if got := contents(t, to); !reflect.DeepEqual(got, want) {
		t.Errorf("the copy has %v, want %v", got, want)
	}
	const again = "0 messages copied, with 0 bodies of 0 bytes; 4 were there already"
	call(t, "copy", from, to).want(t, exitFine, again)
	call(t, "copy", "-remove", from, to).want(t, exitFine, again+"; 4 removed from "+from)
	if left := contents(t, from); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	call(t, "copy", to, from, "-remove").want(t, exitFine, copied+"; 4 removed from "+to)
	if got := contents(t, from); !reflect.DeepEqual(got, want) {
		t.Errorf("there and back it is %v, want %v", got, want)
	}
}

func TestCopyDamage(t *testing.T) {
	from, _ := testSpool(t)
	want := contents(t, from)
	body4 := bodyOf(t, from, 4)
	spoil(t, from, "0123456789abcde\n")
	spoil(t, from, "caf\xe9@")
	for _, remove := range []bool{false, true} {
		to := filepath.Join(tempDir(t), "to")
		args := []string{"copy", from, to}
		last := "2 messages copied, with 1 bodies of 23 bytes; 0 were there already"
		if remove {
			args, last = append(args, "-remove"), last+"; 2 removed from "+from
		}
		r := call(t, args...)
		lines := strings.Split(strings.TrimSpace(r.out), "\n")
		if r.code != exitLeft || len(lines) != 4 || lines[3] != last || lines[2] != "left in "+from+": "+id(4).String() ||
			!strings.HasPrefix(r.out, "damaged: entry "+id(3).String()) && !strings.HasPrefix(lines[1], "damaged: entry "+id(3).String()) ||
			!strings.Contains(r.out, "damaged: body "+body4+": ") {
			t.Errorf("copy, remove %v: %+v", remove, r)
		}
		r.wantError(t, "2 parts of the source are damaged")
		got := contents(t, to)
		if len(got) != 2 || !reflect.DeepEqual(got[id(1)], want[id(1)]) || !reflect.DeepEqual(got[id(2)], want[id(2)]) {
			t.Errorf("the copy has %v", maps.Keys(got))
		}
	}
	if r := call(t, "list", "-json", from); strings.Count(r.out, "\n") != 1 || !strings.Contains(r.errors, id(3).String()) {
		t.Errorf("after moving there is %+v, want what is damaged", r)
	}
}

func TestVerify(t *testing.T) {
	dir, _ := testSpool(t)
	const fine = "4 entries, 3 bodies of 2097205 bytes, 0 damaged"
	call(t, "verify", dir).want(t, exitFine, fine)
	index := filepath.Join(dir, "index.db")
	b, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte("inbox\x04acme"), []byte("inbux\x04acme"))
	if err := os.WriteFile(index, b, 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "verify", dir).want(t, exitLeft, fine+"; 1 records of the index are damaged, and the log has them")
	if r := call(t, "list", "-json", dir, "-queue", "inbox"); r.code != exitFine || strings.Count(r.out, "\n") != 2 {
		t.Errorf("list: %+v", r)
	}
	openSpool(t, dir).Close()
	call(t, "verify", dir).want(t, exitFine, fine)
}

func TestRebuild(t *testing.T) {
	dir, _ := testSpool(t)
	want := contents(t, dir)
	index := filepath.Join(dir, "index.db")
	whole, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(index, whole[:5000], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list", dir}, {"verify", dir}} {
		r := call(t, args...)
		r.want(t, exitUsage, "")
		r.wantError(t, "index.db is damaged", "spoolctl rebuild "+dir)
	}
	before := contentsOf(t, dir)
	r := call(t, "rebuild", dir)
	r.want(t, exitUsage, "")
	r.wantError(t, "may come back", "sent once more", "-yes")
	if contentsOf(t, dir) != before {
		t.Error("rebuild without -yes changed the spool")
	}
	r = call(t, "rebuild", dir, "-yes")
	r.want(t, exitFine, "4 messages are in the new index of "+dir+"; 0 were left out, whose bodies are gone, most likely since they had ended; 0 parts of the log are damaged")
	if got := contents(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("after rebuild it is %v, want %v", got, want)
	}
	spoil(t, dir, "caf\xe9@")
	if r = call(t, "rebuild", "-yes", dir); r.code != exitLeft || !strings.Contains(r.out, "1 parts of the log are damaged") {
		t.Errorf("rebuild of a spool whose log is damaged: %+v", r)
	}
}
