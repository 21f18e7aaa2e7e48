package boltspool_test

import (
	"errors"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// An eioLife is one host whose calls fail.
type eioLife struct {
	*eioTest
	aim aim
	cfg hostConfig

	h       *hostProcess
	before  []hostEvent // told by a host that was killed before
	events  []hostEvent
	err     error // of the process
	stopped time.Time
	alone   bool // the host ended before it was told to
	senders *senders
}

func (e *eioTest) newLife(aim aim) *eioLife {
	e.lives++
	l := &eioLife{eioTest: e, aim: aim, cfg: e.k.hostConfig}
	l.senders = newSenders(e.k.bag, l.mail)
	switch aim {
	case atFirst:
		l.cfg.OpenOnly = true
	case atRestart:
		l.cfg.OpenOnly = true
		l.crash()
	case atStop:
		l.cfg.SegmentSize = 0 // no checkpoint is due before
	}
	return l
}

// mail is what clients deliver: segments fill up, and large bodies are among it.
func (l *eioLife) mail() (content []byte, kinds []string) {
	kinds = []string{[]string{"ok", "ok", "fail", "relay", "reject"}[rand.IntN(5)]}
	big := 10
	if l.aim == atBig || l.aim == atRestart {
		big = 2
	}
	switch n := rand.IntN(20); {
	case rand.IntN(big) == 0:
		return paddedContent(1_100_000 + rand.IntN(1_000_000)), kinds
	case n < 10:
		return paddedContent(100 + rand.IntN(20_000)), append(kinds, "ok")
	case n < 19:
		return paddedContent(50_000 + rand.IntN(250_000)), kinds
	}
	return paddedContent(700_000 + rand.IntN(300_000)), kinds
}

// crash leaves a spool whose host was killed at work.
func (l *eioLife) crash() {
	l.t.Helper()
	h := l.k.start()
	stop := newSenders(l.k.bag, l.mail).start(l.t, h.listening(), 4)
	l.k.bag.load(h, 20+rand.IntN(60))
	l.before = l.k.kill(h)
	stop()
}

// run is the life: until the host ends, or has done enough.
func (l *eioLife) run() {
	l.t.Helper()
	l.h = startHost(l.t, l.cfg)
	sending := func() {}
	if l.cfg.OpenOnly {
		l.h.await("opened", func(ev hostEvent) bool { return ev.Kind == "opened" })
	} else if ev, ok := l.h.await("listening", func(ev hostEvent) bool { return ev.Kind == "listening" }); ok {
		sending = l.senders.start(l.t, ev.Addr, 4)
		n := 200
		if l.aim == atStop {
			n = 20
		}
		l.alone = !l.load(n)
	}
	l.stopped = time.Now()
	l.h.stdin.Close()
	l.events, l.err = l.h.end()
	sending()
}

// load waits until n more messages were acknowledged. It reports false if the host
// ended before.
func (l *eioLife) load(n int) bool {
	l.t.Helper()
	timeout := time.NewTimer(hostTimeout)
	defer timeout.Stop()
	for goal := l.k.bag.count() + n; l.k.bag.count() < goal; {
		select {
		case <-l.k.bag.ack:
		case <-l.h.ended:
			return false
		case <-timeout.C:
			l.t.Fatalf("the host neither accepts messages nor ends; it said:\n%s", &l.h.stderr)
		}
	}
	return true
}

// judge checks how the host has taken what failed, and lets others go on.
func (l *eioLife) judge(hits []hit) {
	l.t.Helper()
	fate, at := harmless, time.Time{}
	for _, h := range hits {
		f := fault{l.during(h), h.call, h.file}
		l.count(f, l.aim)
		if is := l.fate(f, h.at); is != harmless && fate == harmless {
			fate, at = is, h.at
		}
	}
	l.ending(fate)
	l.replies(fate, at)
	l.cut(slices.Concat(l.before, l.events))
	if l.aim == atRestart {
		l.k.closed = false
		l.k.check(l.before)
	} else {
		l.k.closed = true
		l.k.check(l.events)
	}
	l.k.finish() // a host that nothing happens to
	if l.t.Failed() {
		l.t.Fatalf("faults: %+v; the host ended with %v and said:\n%s", hits, l.err, &l.h.stderr)
	}
}

func (l *eioLife) told(kind string) (ev hostEvent, ok bool) {
	i := slices.IndexFunc(l.events, func(ev hostEvent) bool { return ev.Kind == kind })
	if i < 0 {
		return ev, false
	}
	return l.events[i], true
}

// during says what the host did when a call failed.
func (l *eioLife) during(h hit) string {
	opened, ok := l.told("opened")
	switch {
	case !ok || h.at.Before(opened.Time):
		return "opening"
	case h.at.After(l.stopped):
		return "stopping"
	}
	return "working"
}

// fate is fateOf what goroutines of the spool do too, which work before Open has
// returned and while the host stops.
func (l *eioLife) fate(f fault, at time.Time) fate {
	l.t.Helper()
	is := fateOf(f)
	if _, opened := l.told("opened"); is == unknown || is == opensNot && opened {
		is = fateOf(fault{"working", f.call, f.file})
	}
	fails := is == stops || is == stopsSoon
	switch late := !l.alone && at.After(l.stopped.Add(-time.Second)); {
	case is == unknown:
		l.t.Errorf("the test does not know what %+v makes of a host", f)
	case fails && late, is == closesNot && !l.failure().IsZero():
		return stopsLate
	}
	return is
}

// ending checks how the process ended.
func (l *eioLife) ending(fate fate) {
	l.t.Helper()
	said := lastWords(l.h.stderr.String())
	switch {
	case fate == stopsLate && l.err == nil && !l.failure().IsZero():
		return
	case fate == harmless:
		if l.err != nil || !l.failure().IsZero() {
			l.t.Errorf("the host ended with %v: %q, want no error", l.err, said)
		}
		return
	}
	var exit *exec.ExitError
	if !errors.As(l.err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said, "input/output error") {
		l.t.Errorf("the host ended with %v: %q, want status 1 and the error", l.err, said)
	}
	failed := strings.Contains(said, spool.ErrFailed.Error()) && !l.failure().IsZero()
	if want := fate == stops || fate == stopsSoon; failed != want && fate != stopsLate {
		l.t.Errorf("the host says that storage failed: %v, want %v", failed, want)
	}
	if _, opened := l.told("opened"); fate == opensNot && opened {
		l.t.Error("the spool was opened")
	}
}

// lastWords returns the error with which a host ended.
func lastWords(stderr string) string {
	if i := strings.LastIndex(stderr, "host: "); i >= 0 {
		return stderr[i:]
	}
	return ""
}

var failureLine = regexp.MustCompile(`(?m)^time=(\S+) level=ERROR msg="boltspool: storage failed`)

// failure returns when the spool had failed at the latest, zero if it did not.
func (l *eioLife) failure() time.Time {
	m := failureLine.FindStringSubmatch(l.h.stderr.String())
	if m == nil {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, m[1])
	if err != nil {
		l.t.Fatal(err)
	}
	return at.Add(time.Millisecond) // the log counts whole ones
}

// replies checks what clients were told: 250 until the fault, and 4xx from then
// on.
func (l *eioLife) replies(fate fate, fault time.Time) {
	l.t.Helper()
	refusing := fault
	switch fate {
	case harmless, closesNot:
		fault = l.stopped
	case stopsLate:
		if fault.After(l.stopped) {
			fault = l.stopped
		}
	case stopsSoon:
		refusing = l.failure()
	}
	for _, d := range l.senders.dealings() {
		reply, refused := d.refusal()
		switch {
		case d.err == nil:
			l.acked++
			if (fate == stops || fate == stopsSoon) && d.begun.After(refusing) {
				l.t.Errorf("a message was acknowledged that was begun %v after the fault", d.begun.Sub(fault))
			}
		case d.ended.Before(fault):
			l.t.Errorf("%v before anything failed, a client saw: %v", fault.Sub(d.ended), d.err)
		case refused && reply.Code == 421 && strings.HasPrefix(reply.Msg, "4.3."):
		case refused && reply.Code == 451 && strings.HasPrefix(reply.Msg, "4.3.0 ") && (fate == stops || fate == stopsSoon || fate == stopsLate):
			l.refused++
		case refused:
			l.t.Errorf("a client was told %v", reply)
		}
	}
}
