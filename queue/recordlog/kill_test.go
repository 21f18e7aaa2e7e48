package recordlog

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

var long = flag.Bool("long", false, "kill more often, and read with jq")

// killedDir tells the test binary to be the process that is killed.
const killedDir = "RECORDLOG_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		os.Exit(writeUntilKilled(dir))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// writeUntilKilled writes records and says of each that it was acknowledged.
func writeUntilKilled(dir string) int {
	first, _ := strconv.Atoi(os.Args[len(os.Args)-1])
	l, err := Open(dir, &Options{MaxBytes: 4000, Logger: quiet()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	acked := make(chan int)
	for g := range 4 {
		go func() {
			for n := first + g; ; n += 4 {
				if err := l.Record(timeless{}, record(n, queue.Bounce)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				acked <- n
			}
		}()
	}
	for n := range acked {
		fmt.Println(n)
	}
	return 0
}

// timeless is a context that never ends.
type timeless struct{}

func (timeless) Deadline() (t time.Time, ok bool) { return }
func (timeless) Done() <-chan struct{}            { return nil }
func (timeless) Err() error                       { return nil }
func (timeless) Value(any) any                    { return nil }

// TestKill kills the process that writes again and again: what was acknowledged is
// there, whole and readable.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rounds := 4
	if *long {
		rounds = 100
	}
	var acked []int
	for range rounds {
		cmd := exec.Command(os.Args[0], strconv.Itoa(len(acked)+1+rand.IntN(3)))
		cmd.Env = append(os.Environ(), killedDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for want := 1 + rand.IntN(100); want > 0 && lines.Scan(); want-- {
			n, _ := strconv.Atoi(lines.Text())
			acked = append(acked, n)
		}
		cmd.Process.Kill()
		for lines.Scan() { // what it said before it died
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				acked = append(acked, n)
			}
		}
		cmd.Wait()
	}
	mustOpen(t, dir, nil) // finishes what the last one has left
	got := map[int]bool{}
	for _, n := range numbers(t, dir, nil) {
		got[n] = true
	}
	for _, n := range acked {
		if !got[n] {
			t.Errorf("record %d was acknowledged and is not there", n)
		}
	}
	t.Logf("%d records acknowledged by %d processes", len(acked), rounds)
	if len(acked) < rounds {
		t.Error("the test saw next to nothing")
	}
	checkFinished(t, dir, len(must(segments(dir))))
	if *long {
		checkJQ(t, dir)
	}
}

// checkJQ reads the segments with the tools that everybody has.
func checkJQ(t *testing.T, dir string) {
	t.Helper()
	for _, tool := range []string{"zstd", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install %s", err, tool)
		}
	}
	out, err := exec.Command("sh", "-c", `for f in "$0"/*.zst; do zstd -dcq "$f" 2>/dev/null; done | jq -r .size`, dir).Output()
	if err != nil {
		t.Logf("jq: %v (a torn last line is an error to it)", err)
	}
	var got []int
	for line := range strings.Lines(string(out)) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	want := numbers(t, dir, nil)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("jq reads %d records, Read %d", len(got), len(want))
	}
}
