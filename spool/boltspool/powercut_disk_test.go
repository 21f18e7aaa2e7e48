package boltspool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestPowerCutDisk cuts the power of a mail host under load, at random moments:
// what the disk has then is opened, and every message acknowledged before must
// be in it. The short form has no such disk: it kills the host, and what this
// shows of power cuts is left to TestPowerCut.
func TestPowerCutDisk(t *testing.T) {
	if !*boltspool.Long {
		t.Log("short form: the host is killed, and no power is cut; -long does that on a file system of its own")
		newPowerTest(t, t.TempDir()).killed()
		return
	}
	p := newPoweredTest(t)
	for p.cuts < boltspool.Tries(100) && !t.Failed() {
		p.begin()
		p.life(5)
		p.life(5)
	}
	t.Logf("%d power cuts, after which %d acknowledged messages were found; %d had passed through before",
		p.cuts, p.found, p.passed)
	if p.found == 0 || p.passed == 0 {
		t.Error("the test saw no message")
	}
	for _, err := range p.losses {
		t.Error(err)
	}
}

// TestPowerCutDiskTeeth shows that the test above sees what it is for: a host
// whose syncs do nothing loses mail, on a spool that another one has begun.
func TestPowerCutDiskTeeth(t *testing.T) {
	if !*boltspool.Long {
		t.Log("short form: none; without a disk there is nothing that a missing sync could lose")
		return
	}
	p := newPoweredTest(t)
	p.begin()
	p.life(1)
	for _, err := range p.losses {
		t.Error("with syncs: ", err)
	}
	p.NoSync = true
	p.life(5)
	t.Logf("without syncs: of the messages acknowledged before %d power cuts, %d were lost and %d found", p.cuts-2, p.lost, p.found)
	if p.lost == 0 {
		t.Error("a spool that does not sync lost nothing")
	}
}

// A powerTest is hosts that worked on one spool, on a disk whose power is cut.
type powerTest struct {
	t *testing.T
	hostConfig
	disk *testdisk.Power
	bag  *mailbag
	past []hostEvent // told by hosts that have ended

	cuts                int
	found, passed, lost int // messages, counted after each cut
	losses              []error
}

func newPoweredTest(t *testing.T) *powerTest {
	t.Helper()
	disk, err := testdisk.NewPower(t, 512)
	if err != nil {
		t.Fatal(err)
	}
	p := newPowerTest(t, disk.Dir)
	p.disk = disk
	return p
}

func newPowerTest(t *testing.T, base string) *powerTest {
	return &powerTest{t: t, bag: newMailbag(), hostConfig: hostConfig{
		// What fails once stays.
		Dir: filepath.Join(base, "spool"), Base: time.Hour, SegmentSize: 2 << 20, Reserve: 8 << 20,
	}}
}

// begin removes the spool, for good: a cut does not bring it back.
func (p *powerTest) begin() {
	p.t.Helper()
	err := os.RemoveAll(p.Dir)
	if parent, err2 := os.Open(filepath.Dir(p.Dir)); err == nil && err2 == nil {
		err = errors.Join(parent.Sync(), parent.Close())
	} else {
		err = errors.Join(err, err2)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.bag, p.past = newMailbag(), nil
}

// life is one host. The power is cut when it opens the spool, and then n times
// while clients deliver.
func (p *powerTest) life(n int) {
	p.t.Helper()
	h := startHost(p.t, p.hostConfig)
	h.untilKind("opening")
	<-time.After(rand.N(10 * time.Millisecond))
	p.cut(h)
	stop := p.clients(h)
	for range n {
		p.bag.load(h, rand.IntN(80))
		<-time.After(rand.N(20 * time.Millisecond))
		p.cut(h)
	}
	p.past = append(p.past, h.kill()...)
	stop()
}

// clients deliver messages some of which stay while others pass through.
func (p *powerTest) clients(h *hostProcess) (stop func()) {
	p.t.Helper()
	return p.bag.clients(p.t, h.listening(), "ok", "ok", "fail", "relay", "reject")
}

// cut cuts the power, and looks at what is left.
func (p *powerTest) cut(h *hostProcess) {
	p.t.Helper()
	p.cuts++
	acked := p.bag.snapshot() // before the cut
	image, err := p.disk.Cut()
	if err != nil {
		p.t.Fatal(err)
	}
	ended := endings(p.past, h.mark()) // all that may have left the spool before the cut is among them
	p.lookAt(image, acked, ended)
}

// lookAt looks at what a cut has left, and gives the image up.
func (p *powerTest) lookAt(image *testdisk.Image, acked map[spool.ID]string, ended map[spool.ID]bool) {
	p.t.Helper()
	dir, err := image.Mount()
	if err != nil {
		p.t.Fatal(err)
	}
	p.look(filepath.Join(dir, filepath.Base(p.Dir)), acked, ended)
	if err := image.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// killed is the short form of a generation.
func (p *powerTest) killed() {
	p.t.Helper()
	h := startHost(p.t, p.hostConfig)
	stop := p.clients(h)
	p.bag.load(h, 50)
	ended := endings(h.kill())
	stop()
	p.look(p.Dir, p.bag.snapshot(), ended)
	for _, err := range p.losses {
		p.t.Error(err)
	}
	if p.found == 0 {
		p.t.Error("the test saw no message")
	}
}

// endings returns the messages whose last handler had decided.
func endings(told ...[]hostEvent) map[spool.ID]bool {
	ended := map[spool.ID]bool{}
	for _, events := range told {
		for _, ev := range events {
			if ev.Kind == "reject" || ev.Kind == "ok" && ev.Queue == outQueue {
				ended[ev.ID] = true
			}
		}
	}
	return ended
}

// look opens the spool as the next host would, compares it with what was
// acknowledged, and uses it.
func (p *powerTest) look(dir string, acked map[spool.ID]string, ended map[spool.ID]bool) {
	p.t.Helper()
	sp, err := boltspool.Open(dir, &boltspool.Options{
		SegmentSize: p.SegmentSize, Reserve: p.Reserve, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		p.lost += len(acked)
		p.losses = append(p.losses, fmt.Errorf("cut %d, all of %d messages: %w", p.cuts, len(acked), err))
		return
	}
	contents := map[spool.ID]string{}
	for e, err := range sp.Scan(p.t.Context(), spool.Query{}) {
		if err == nil {
			contents[e.ID], err = p.content(sp, e)
		}
		if err != nil {
			p.losses = append(p.losses, fmt.Errorf("cut %d: %w", p.cuts, err))
		}
	}
	for id, sum := range acked {
		switch got, ok := contents[id]; {
		case !ok && ended[id]:
			p.passed++
		case got == sum:
			p.found++
		default:
			p.lost++
			p.losses = append(p.losses, fmt.Errorf("cut %d: message %s was acknowledged, and is %q, want %q", p.cuts, id, got, sum))
		}
	}
	if err := errors.Join(storeOne(p.t.Context(), sp), sp.Close()); err != nil {
		p.losses = append(p.losses, fmt.Errorf("cut %d: the spool cannot be used: %w", p.cuts, err))
	}
}

// content returns the digest of what a client had sent. It must be whole, even
// if nobody has got a 250 for it.
func (p *powerTest) content(sp spool.Spool, e *spool.Entry) (string, error) {
	body, err := sp.Open(p.t.Context(), e.Body)
	if err != nil {
		return "", fmt.Errorf("message %s: %w", e.ID, err)
	}
	content := spool.Content(e.Header, body, e.Skip)
	defer content.Close()
	b, err := io.ReadAll(content)
	if err != nil {
		return "", fmt.Errorf("message %s: %w", e.ID, err)
	}
	sum := digest(sentPart(b))
	signed := bytes.Count(b, []byte(processed+": "+e.ID.String()))
	if signed != 0 && e.Queue == queue.Deferred || signed != 1 && e.Queue == outQueue {
		return sum, fmt.Errorf("message %s in queue %s has %d fields of the inject callback", e.ID, e.Queue, signed)
	}
	p.bag.mu.Lock()
	defer p.bag.mu.Unlock()
	if !p.bag.mu.sent[sum] {
		return sum, fmt.Errorf("message %s is not what was sent", e.ID)
	}
	return sum, nil
}

// storeOne stores a message.
func storeOne(ctx context.Context, sp spool.Spool) error {
	w, err := sp.Create(ctx, 0)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(paddedContent(10_000)); err != nil {
		return err
	}
	return w.Commit(ctx, &spool.Entry{
		ID: spool.NewID(), Body: w.ID(), Queue: queue.Deferred, Class: "-", Due: time.Now(), Received: time.Now(),
	})
}
