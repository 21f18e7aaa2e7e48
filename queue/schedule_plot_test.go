package queue

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A plot draws what happens to messages as text: a line for each moment of a
// message, and for what the host and its operators do. A message is called by the
// local part of its recipient; one that is called hidden is not drawn.
type plot struct {
	t     *testing.T
	begin time.Time
	scale func(time.Duration) float64 // 0 to 1 is what the scale shows
	ruler string                      // what stands above it

	mu     sync.Mutex
	sp     *spool.Memory
	fill   string // of the lines of the host; ":" while something is suspended
	events []plotEvent
	delays []plotDelay // of all messages
	ends   int         // expirations
}

// A plotEvent is a line. One without a name is the host's.
type plotEvent struct {
	at        time.Duration
	who, what string
	attempts  int
	due       time.Duration // after at
	state     spool.State
	gone      bool   // there is no entry
	fill      string // of the host's
}

// A plotDelay is how long a message is to wait after a failure.
type plotDelay struct {
	attempts int
	delay    time.Duration
	atEnd    bool // cut to the end of life
}

const (
	plotWidth = 50
	hidden    = "hidden"
)

func newPlot(t *testing.T, scale func(time.Duration) float64, ruler string) *plot {
	return &plot{t: t, begin: time.Now(), scale: scale, ruler: ruler, fill: "-"}
}

// linear is a scale that ends at a time, with marks every step.
func linear(end, step time.Duration) (scale func(time.Duration) float64, ruler string) {
	scale = func(d time.Duration) float64 { return float64(d) / float64(end) }
	return scale, rulerOf(scale, func(yield func(time.Duration) bool) {
		for d := time.Duration(0); d <= end && yield(d); d += step {
		}
	})
}

// logarithmic is a scale from first to end, with a mark every few doublings.
func logarithmic(first, end time.Duration) (scale func(time.Duration) float64, ruler string) {
	scale = func(d time.Duration) float64 {
		return max(math.Log2(float64(d)/float64(first))/math.Log2(float64(end)/float64(first)), 0)
	}
	return scale, rulerOf(scale, func(yield func(time.Duration) bool) {
		for d := first; d <= end && yield(d); d *= 4 {
		}
	})
}

func rulerOf(scale func(time.Duration) float64, marks func(func(time.Duration) bool)) string {
	line := []byte(strings.Repeat(" ", plotWidth+8))
	for d := range marks {
		copy(line[place(scale(d)):], shortly(d))
	}
	return strings.TrimRight(string(line), " ")
}

// place is the column of a share of the scale.
func place(share float64) int { return int(min(max(share, 0), 1)*(plotWidth-1) + 0.5) }

// run starts a scheduler whose handlers and records are drawn.
func (p *plot) run(inject Handler, c setup) *world {
	p.t.Helper()
	c.record = p.record
	if c.sp == nil {
		c.sp = spool.NewMemory()
	}
	p.use(c.sp)
	return start(p.t, p.handler(inject), c)
}

// use has the state of messages read there.
func (p *plot) use(sp *spool.Memory) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sp = sp
}

// handler notes the attempts.
func (p *plot) handler(h Handler) Handler {
	return func(ctx context.Context, m *Message) error {
		p.note(m.ID, m.Envelope.Recipients[0].Address, fmt.Sprintf("attempt %d", m.Attempt))
		return h(ctx, m)
	}
}

// record takes the records.
func (p *plot) record(_ context.Context, r Record) error {
	what := map[RecordType]string{TransientFailure: "transient", Delivery: "delivered", Bounce: "bounced",
		Expiration: "expired", AdminBounce: "dropped"}[r.Type]
	switch {
	case r.Type == Reception: // it may be written after the first attempt
		return nil
	case r.Type == AdminRebind:
		what, _, _ = strings.Cut(r.Response.Content, ":")
	case r.Type == TransientFailure && r.Response.Content != errDown.Error():
		what += " (" + r.Response.Content + ")"
	}
	p.note(r.ID, r.Recipients[0], what)
	if r.Type == Expiration {
		p.mu.Lock()
		p.ends++
		p.mu.Unlock()
	}
	return nil
}

// note draws something that happens to a message now.
func (p *plot) note(id spool.ID, rcpt, what string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	e := plotEvent{at: now.Sub(p.begin), what: what, gone: true}
	e.who, _, _ = strings.Cut(rcpt, "@")
	for stored, err := range p.sp.Scan(context.Background(), spool.Query{After: before(id)}) {
		if err == nil && stored.ID == id && stored.State != spool.Final {
			e.gone, e.attempts, e.due, e.state = false, stored.Attempts, stored.Due.Sub(now.Round(0)), stored.State
			if strings.HasPrefix(what, "transient") && stored.State == spool.Queued {
				p.delays = append(p.delays, plotDelay{stored.Attempts, e.due, stored.Due.Equal(stored.Received.Add(defaultMaxAge))})
			}
		}
		break
	}
	if e.who != hidden {
		p.events = append(p.events, e)
	}
}

// host draws what the host or an operator does, when all is at rest.
func (p *plot) host(format string, args ...any) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, plotEvent{at: time.Since(p.begin), what: fmt.Sprintf(format, args...), fill: p.fill})
}

// waiting draws all that waits now.
func (p *plot) waiting(sp *spool.Memory) {
	synctest.Wait()
	p.use(sp)
	w := &world{t: p.t, sp: sp}
	for _, e := range w.entries() {
		if e.Queue != Suspensions {
			p.note(e.ID, e.Envelope.Recipients[0].Address, "waits")
		}
	}
}

// suspended draws that a suspension begins or ends.
func (p *plot) suspended(on bool) {
	what := "resumed"
	p.mu.Lock()
	if p.fill = "-"; on {
		p.fill, what = ":", "suspended"
	}
	p.mu.Unlock()
	p.host("%s", what)
}

// expired counts what has expired.
func (p *plot) expired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ends
}

// until lets time pass until that long after the beginning.
func (p *plot) until(d time.Duration) { pass(time.Until(p.begin.Add(d))) }

// merged returns the events in order, those of one message at one moment as one.
// What goes on at the same time is ordered by name: it has no other order.
func (p *plot) merged() (lines []plotEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	events := slices.Clone(p.events)
	for i := 0; i < len(events); { // what the host does stays where it is
		n := i + 1
		for n < len(events) && events[n].at == events[i].at && events[n].fill == "" && events[i].fill == "" {
			n++
		}
		slices.SortStableFunc(events[i:n], func(a, b plotEvent) int { return cmp.Compare(a.who, b.who) })
		i = n
	}
	for _, e := range events {
		if last := len(lines) - 1; last >= 0 && lines[last].at == e.at && lines[last].who == e.who && e.fill == "" {
			e.what = lines[last].what + ", " + e.what
			lines[last] = e
			continue
		}
		lines = append(lines, e)
	}
	return lines
}

// draw returns the timeline.
func (p *plot) draw() string {
	var b strings.Builder
	b.WriteString("* attempt  ..> until it is due  h held  x ended  --- the host or an operator  ::: the same while suspended\n" +
		"due in: from then, with a minus if it was due before; att: failed attempts that count\n\n")
	fmt.Fprintf(&b, "%11s   %-*s   %-8s %-3s %s\n", "d hh:mm:ss", plotWidth, p.ruler, "due in", "att", "event")
	for _, e := range p.merged() {
		line := []rune(strings.Repeat(" ", plotWidth))
		now := place(p.scale(e.at))
		attempts, due := "", ""
		switch {
		case e.fill != "":
			line = []rune(strings.Repeat(e.fill, plotWidth))
		case e.gone:
			line[now] = 'x'
		case e.state == spool.Held:
			line[now], attempts, due = 'h', fmt.Sprint(e.attempts), "held"
		default:
			attempts, due = fmt.Sprint(e.attempts), shortly(e.due)
			for i := now; i < place(p.scale(e.at+e.due)); i++ {
				line[i], line[i+1] = '.', '>'
			}
		}
		if strings.Contains(e.what, "attempt") {
			line[now] = '*'
		}
		fmt.Fprintf(&b, "%11s  |%s|  %-8s %3s %s\n", clockOf(e.at), string(line), due, attempts, strings.TrimSpace(e.who+" "+e.what))
	}
	return b.String()
}

// clockOf writes a time as days, hours, minutes and seconds.
func clockOf(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	return fmt.Sprintf("%d %02d:%02d:%02d", s/86400, s/3600%24, s/60%60, s%60)
}

// shortly writes a duration with its two largest units.
func shortly(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	sign := ""
	if s < 0 {
		s, sign = -s, "-"
	}
	text, units := sign, 0
	for i, unit := range []int64{86400, 3600, 60, 1} {
		if n := s / unit; (n > 0 || units > 0 && s > 0) && units < 2 {
			text += fmt.Sprint(n) + string("dhms"[i])
			units++
		}
		s %= unit
	}
	if units == 0 {
		return "0"
	}
	return text
}

// histogram draws how long messages wait: a row for each doubling, and in it how
// far the jitter took them.
func (p *plot) histogram(base time.Duration, jitter float64) string {
	const columns = 21
	type row struct {
		n      int
		spread [columns]int
	}
	rows := map[int]*row{}
	last := 0
	ends := map[int]int{}
	for _, d := range p.delays {
		if d.atEnd {
			ends[int(math.Floor(math.Log2(float64(d.delay)/float64(base))))]++
			continue
		}
		doublings := int(math.Round(math.Log2(float64(d.delay) / float64(base))))
		if rows[doublings] == nil {
			rows[doublings] = &row{}
		}
		r := rows[doublings]
		off := float64(d.delay)/float64(base<<max(doublings, 0)) - 1 // -jitter to jitter
		r.n++
		r.spread[min(max(int((off/jitter+1)/2*columns), 0), columns-1)]++
		last = max(last, doublings)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%8s  %4s  %-32s %s\n", "delay", "n", "", fmt.Sprintf("%+.0f%%%*s%+.0f%%", -100*jitter, columns-4, "", 100*jitter))
	for i := range last + 1 {
		r := rows[i]
		if r == nil {
			r = &row{}
		}
		var strip bytes.Buffer
		for _, n := range r.spread {
			strip.WriteByte(" 123456789#"[min(n, 10)])
		}
		fmt.Fprintf(&b, "%8s  %4d  %-32s|%s|\n", shortly(base<<i), r.n, strings.Repeat("=", min(r.n, 32)), &strip)
	}
	for i := range last + 1 {
		if ends[i] > 0 {
			fmt.Fprintf(&b, "%8s  %4d  %-32s|%-*s|\n", shortly(base<<i)+"+", ends[i], strings.Repeat("=", min(ends[i], 32)), columns, "to the end of life")
		}
	}
	return b.String()
}

// golden compares a plot with what is stored.
func golden(t *testing.T, name, got string) {
	t.Helper()
	lines := strings.Split(got, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	got = strings.Join(lines, "\n")
	file := filepath.Join("testdata", "schedule_"+name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(string(stored), "\n")
	for i := range max(len(lines), len(want)) {
		if i >= len(lines) || i >= len(want) || lines[i] != want[i] {
			t.Errorf("%s differs in line %d; the plot is\n%s", file, i+1, got)
			return
		}
	}
}
