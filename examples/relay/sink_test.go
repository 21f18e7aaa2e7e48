package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
	"github.com/deferredqueue/deferredqueue/spool"
)

var long = flag.Bool("long", false, "deliver 10,000 messages to smtp-sink, and add everything up")

// TestSink delivers to real smtp-sinks behind one address: which of them a connection
// reaches is left to chance, and one takes everything, one puts everything off at the
// dot, and one refuses every recipient for good. At the end the records, the sinks and
// the notices must add up.
func TestSink(t *testing.T) {
	if !*long {
		t.Log("short form: the other tests; with -long Postfix's smtp-sink takes 10,000 messages")
		return
	}
	for _, tool := range []string{"smtp-sink", "smtp-source", "jq", "zstd"} {
		if _, err := lookTool(tool); err != nil {
			t.Fatalf("%v: install Debian's packages postfix, jq and zstd", err)
		}
	}
	const n = 10_000
	dump := filepath.Join(t.TempDir(), "mail")
	front := startFront(t,
		startSink(t, "-D", dump), startSink(t, "-D", dump), // twice as often
		startSink(t, "-r", "."), startSink(t, "-f", "RCPT"))
	c := testConfig(&host{addr: front}, t.TempDir())
	c.maxUses = 5 // so that chance has its turn again
	r := startRelay(t, c)
	begin := time.Now()
	sendAll(t, r.addr, n)
	t.Logf("%d messages accepted in %v", n, time.Since(begin).Round(time.Millisecond))
	books := r.settle(n)
	t.Logf("all of it dealt with in %v: %v", time.Since(begin).Round(time.Millisecond), books.types)
	r.stop()
	books.check(t, r, dump)
}

func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name) // not in everybody's path
}

// startSink starts an smtp-sink and returns its address.
func startSink(t *testing.T, args ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	tool, err := lookTool("smtp-sink")
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "root"}, args...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, tool, append(args, addr, "100")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr
		}
		if time.Now().After(end) {
			t.Fatalf("smtp-sink does not listen: %v %s", err, &stderr)
		}
	}
}

// startFront passes each connection on to one of the hosts, at random.
func startFront(t *testing.T, hosts ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", hosts[rand.IntN(len(hosts))])
				if err != nil {
					return
				}
				defer out.Close()
				done := make(chan struct{})
				go func() {
					io.Copy(out, in)
					out.(*net.TCPConn).CloseWrite()
					close(done)
				}()
				io.Copy(in, out)
				in.Close()
				<-done
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		conns.Wait()
	})
	return ln.Addr().String()
}

// sendAll hands n messages in by smtp-source, to four domains.
func sendAll(t *testing.T, addr string, n int) {
	t.Helper()
	tool, err := lookTool("smtp-source")
	if err != nil {
		t.Fatal(err)
	}
	for d := range 4 {
		cmd := exec.Command(tool, "-s", "20", "-m", fmt.Sprint(n/4), "-l", "4096", "-f", "app@example.org", "-t", fmt.Sprintf("user@%d.example", d), addr)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("smtp-source: %v %s", err, out)
		}
	}
}

// books are what the records say.
type books struct {
	accepted map[spool.ID]string // the message that a notice is about; empty for others
	ends     map[spool.ID][]queue.Record
	types    map[queue.RecordType]int
}

// settle follows the records until all that was accepted has ended.
func (r *running) settle(n int) *books {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	b := &books{map[spool.ID]string{}, map[spool.ID][]queue.Record{}, map[queue.RecordType]int{}}
	for it, err := range recordlog.Follow(ctx, filepath.Join(r.dir, "records"), nil) {
		if err != nil {
			r.t.Fatal(err)
		}
		rec := &it.Record
		b.types[rec.Type]++
		if rec.Type == queue.Reception {
			b.accepted[rec.ID] = rec.Meta[queue.MetaNoticeFor]
		}
		if isEnd(rec) {
			b.ends[rec.ID] = append(b.ends[rec.ID], *rec)
		}
		if len(b.accepted) >= n && len(b.ends) == len(b.accepted) && r.idle() {
			return b
		}
	}
	r.t.Fatalf("%d of %d messages have ended: %+v", len(b.ends), len(b.accepted), r.sched.Stats().Queues)
	return nil
}

// idle reports whether nothing is queued, and so no record is to come.
func (r *running) idle() bool {
	st := r.sched.Stats()
	return st.Ready+st.Scheduled+st.Final == 0 && st.Running == 0 && st.Records == 0
}

func (b *books) check(t *testing.T, r *running, dump string) {
	t.Helper()
	notices := map[string]int{}
	for id, about := range b.accepted {
		if len(b.ends[id]) != 1 {
			t.Errorf("%s has %d ends", id, len(b.ends[id]))
		}
		if about != "" {
			notices[about]++
		}
	}
	for id, ends := range b.ends {
		told := notices[id.String()]
		want := 0
		if ends[0].Type != queue.Delivery && ends[0].Sender != "" {
			want = 1
		}
		if told != want {
			t.Errorf("%s ended with %s, from <%s>: %d notices", id, ends[0].Type, ends[0].Sender, told)
		}
	}
	b.checkSink(t, dump)
	b.checkJQ(t, r)
}

// checkSink compares deliveries with what the sinks that take mail have.
func (b *books) checkSink(t *testing.T, dump string) {
	t.Helper()
	data, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	received := regexp.MustCompile(`(?s)\bby relay\.example\b.{0,100}?\bid ([0-9a-f]{32})`)
	notice := regexp.MustCompile(`(?m)^Message-ID: <([0-9a-f]{32})@relay\.example>`) // nobody received it by SMTP
	arrived := map[string]int{}
	for _, mail := range strings.Split(string(data), "X-Client-Addr:")[1:] {
		header, _, _ := strings.Cut(mail, "\n\n") // a notice has that of another message in its content
		for _, re := range []*regexp.Regexp{notice, received} {
			if m := re.FindStringSubmatch(header); m != nil {
				arrived[m[1]]++
				break
			}
		}
	}
	delivered := 0
	for id, ends := range b.ends {
		want := 0
		if ends[0].Type == queue.Delivery {
			want = 1
			delivered++
		}
		if got := arrived[id.String()]; got != want {
			t.Errorf("%s ended with %s and is %d times in the sinks", id, ends[0].Type, got)
		}
	}
	t.Logf("%d deliveries are in the sinks, and %d messages", delivered, len(arrived))
}

// checkJQ counts with jq what Stats has counted.
func (b *books) checkJQ(t *testing.T, r *running) {
	t.Helper()
	out, err := exec.Command("sh", "-c", `zstd -dcq "$0"/*.jsonl.zst | jq -sc 'group_by(.type) | map({(.[0].type): length}) | add'`, filepath.Join(r.dir, "records")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var counts map[queue.RecordType]int64
	if err := json.Unmarshal(out, &counts); err != nil {
		t.Fatal(err)
	}
	stats := r.sched.Stats().Outcomes
	if len(counts) != len(stats) {
		t.Errorf("jq counts %v, Stats %v", counts, stats)
	}
	for typ, n := range stats {
		if counts[typ] != n {
			t.Errorf("jq counts %d %s, Stats %d", counts[typ], typ, n)
		}
	}
	for _, typ := range []queue.RecordType{queue.Delivery, queue.Bounce, queue.TransientFailure} {
		if counts[typ] == 0 {
			t.Errorf("no %s: the test saw too little", typ)
		}
	}
	t.Logf("jq: %s", strings.TrimSpace(string(out)))
}
