package smtpserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// shortClients is how many clients take part without -long: a tenth, but not more
// than this.
const shortClients = 100

// An abuse is something that clients may do to a Listener.
type abuse struct {
	name    string
	limits  Limits
	tls     bool
	small   bool  // the buffers of the clients are
	clients int   // with -long
	bound   int64 // bytes of heap and stacks that one client may cost; wide, for a busy machine
	act     func(a *attack)
}

// inTransaction and inContent are how far a client may have got.
var (
	inTransaction = []string{"EHLO x", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"}
	inContent     = append(inTransaction[:3:3], "DATA")
)

// abuses returns all of it. cut is a timeout after which clients are cut off.
func abuses(cut time.Duration) []abuse {
	return []abuse{
		{name: "idle", clients: 10000, bound: 64 << 10, act: idle()},
		{name: "idle in a transaction", clients: 10000, bound: 64 << 10, act: idle(inTransaction...)},
		{name: "idle in the content", clients: 2000, bound: 128 << 10, act: idle(inContent...)},
		{name: "idle under TLS", clients: 2000, bound: 96 << 10, tls: true, act: idle("EHLO x")},
		{name: "idle to the end", clients: 10000, bound: 64 << 10, limits: Limits{ClientTimeout: cut}, act: idleToTheEnd},
		{name: "an octet a second of a command", clients: 2000, bound: 64 << 10, limits: Limits{ClientTimeout: cut}, act: drip(cut)},
		{name: "an octet a second of the content", clients: 2000, bound: 128 << 10, limits: Limits{DataTimeout: cut}, act: drip(cut, inContent...)},
		{name: "a command line without end", clients: 500, bound: 128 << 10, act: endless("x")},
		{name: "a line of content without end", clients: 50, bound: 512 << 10, limits: Limits{MessageSize: 1 << 20}, act: endless("x", inContent...)},
		{name: "content without end", clients: 50, bound: 4 << 20, limits: Limits{MessageSize: 1 << 20}, act: endless("A line of the content.\r\n", inContent...)},
		{name: "recipients without end", clients: 10, bound: 4 << 20, act: floodRecipients},
		{name: "replies that nobody reads", clients: 20, bound: 512 << 10, small: true, limits: Limits{ClientTimeout: cut}, act: deaf},
		{name: "too many connections", clients: 5000, bound: 64 << 10, limits: Limits{Connections: 50}, act: tooMany},
		{name: "too many connections of one address", clients: 5000, bound: 64 << 10, limits: Limits{ConnectionsPerAddr: 50}, act: tooMany},
	}
}

// TestAbuse does all of it to a Listener: other clients are served meanwhile,
// every client is ended by the limit that is for it, memory is bounded, and
// nothing is left behind. With -long it takes many clients, a server in a
// process of its own, and prints what each costs.
func TestAbuse(t *testing.T) {
	if !*long {
		for _, a := range abuses(time.Second) {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				newAttack(t, &a, max(2, min(a.clients/10, shortClients))).run()
			})
		}
		return
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tclients\theap\tstacks\tRSS\tCPU\tanother waited\tended")
	for _, a := range abuses(5 * time.Second) {
		t.Run(a.name, func(t *testing.T) {
			at := newAttack(t, &a, mayOpen(t, a.clients))
			at.run()
			fmt.Fprintln(w, at.row())
		})
	}
	w.Flush()
	t.Logf("what abuse costs, for each client:\n%s", &table)
}

// An attack is an abuse that is going on.
type attack struct {
	*abuse
	t *testing.T
	s *abuseServer
	n int // clients

	before abuseStats
	cpu    string        // what one of something took
	ended  string        // how the clients were
	waited time.Duration // the longest that another client waited for all replies to a message

	mu struct {
		sync.Mutex
		during   abuseStats // the most of each, or what measure found
		measured bool
	}
}

func newAttack(t *testing.T, a *abuse, clients int) *attack {
	return &attack{abuse: a, t: t, n: clients}
}

// run does the abuse while another client sends messages.
func (a *attack) run() {
	a.s = startAbuseServer(a.t, abuseConfig{Limits: a.limits, TLS: a.tls})
	conn, _, err := a.dial("127.0.0.1")
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	if err := errors.Join(exchange(conn, r, "EHLO other.example"), a.send(conn, r)); err != nil {
		a.t.Fatal(err)
	}
	a.before = a.s.stats(true)
	stop, watched := make(chan struct{}), make(chan error, 1)
	go func() { watched <- a.watch(conn, r, stop) }()
	a.act(a)
	close(stop)
	if err := <-watched; err != nil {
		a.t.Errorf("another client was not served: %v", err)
	}
	a.check()
}

// watch has another client send messages, and looks at what the server costs
// meanwhile.
func (a *attack) watch(conn net.Conn, r *bufio.Reader, stop chan struct{}) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		begin := time.Now()
		if err := a.send(conn, r); err != nil {
			return err
		}
		a.waited = max(a.waited, time.Since(begin))
		st, err := a.s.ask(false)
		if err != nil {
			return err
		}
		a.mu.Lock()
		if !a.mu.measured {
			a.mu.during.most(st)
		}
		a.mu.Unlock()
		select {
		case <-tick.C:
		case <-stop:
			return nil
		}
	}
}

// send sends a message.
func (a *attack) send(conn net.Conn, r *bufio.Reader) error {
	for _, line := range []string{"MAIL FROM:<>", "RCPT TO:<other@example.org>", "DATA", "Subject: x\r\n\r\nx\r\n."} {
		if err := exchange(conn, r, line); err != nil {
			return err
		}
	}
	return nil
}

// exchange sends a line, and wants a reply that refuses nothing.
func exchange(conn net.Conn, r *bufio.Reader, line string) error {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
		return err
	}
	for {
		got, err := r.ReadString('\n')
		switch {
		case err != nil:
			return err
		case len(got) < 4 || got[0] != '2' && got[0] != '3':
			return fmt.Errorf("%.40s: %q", line, got)
		case got[3] == ' ':
			return nil
		}
	}
}

// most keeps the greater of each.
func (st *abuseStats) most(o abuseStats) {
	st.Heap, st.Stack, st.RSS = max(st.Heap, o.Heap), max(st.Stack, o.Stack), max(st.RSS, o.RSS)
	st.Goroutines, st.CPU = max(st.Goroutines, o.Goroutines), max(st.CPU, o.CPU)
}

// measure says that what the server holds now is what the clients cost.
func (a *attack) measure() {
	st := a.s.stats(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.measured, a.mu.during = true, st
}

// charge says what f costs in CPU, for each of what f counts.
func (a *attack) charge(unit string, f func() int) {
	before := a.s.stats(false).CPU
	n := f()
	a.cpu = fmt.Sprintf("%v per %s", ((a.s.stats(false).CPU - before) / time.Duration(max(n, 1))).Round(100*time.Nanosecond), unit)
}

// check looks at what is left.
func (a *attack) check() {
	a.t.Helper()
	if a.waited == 0 || a.waited > patience {
		a.t.Errorf("another client waited %v for a message", a.waited)
	}
	if !*long {
		return // the figures are of all tests together
	}
	const slack = 8 // goroutines that others start when there is something to do
	if cost := (a.mu.during.Heap + a.mu.during.Stack - a.before.Heap - a.before.Stack) / int64(a.n); cost > a.bound {
		a.t.Errorf("a client costs %d bytes of memory, want at most %d", cost, a.bound)
	}
	for end := time.Now().Add(patience); ; {
		st := a.s.stats(true)
		if st.Goroutines <= a.before.Goroutines+slack && st.Heap-a.before.Heap < 1<<20+1<<10*int64(a.n) {
			return
		}
		if time.Now().After(end) {
			a.t.Errorf("when all had gone %d goroutines were left of %d, and %d bytes more than the %d before", st.Goroutines, a.before.Goroutines, st.Heap-a.before.Heap, a.before.Heap)
			return
		}
	}
}

// row is what a costs.
func (a *attack) row() string {
	each := func(during, before int64) string {
		return fmt.Sprintf("%.1f KiB", float64(during-before)/float64(a.n)/1024)
	}
	return fmt.Sprintf("%s\t%d\t%s\t%s\t%s\t%s\t%v\t%s", a.name, a.n, each(a.mu.during.Heap, a.before.Heap), each(a.mu.during.Stack, a.before.Stack),
		each(a.mu.during.RSS, a.before.RSS), a.cpu, a.waited.Round(100*time.Microsecond), a.ended)
}
