package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Operators of two processes act on everything at random while mail comes in and
// handlers fail, hold and succeed: every message comes to exactly one end, none passes
// the inject callback by, and nothing is left owned.
func TestOperatorsRace(t *testing.T) {
	runs := 6
	if *long {
		runs = 200
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newOperatorRace(t, uint64(seed)).run() })
		})
	}
}

type operatorRace struct {
	t        *testing.T
	worlds   [2]*world
	mu       sync.Mutex
	rng      *rand.Rand
	calm     bool
	accepted map[spool.ID]bool
	injected map[spool.ID]bool
	running  map[spool.ID]bool
	done     int64 // by actions
	busy     int64 // not touched by them
}

func newOperatorRace(t *testing.T, seed uint64) *operatorRace {
	r := &operatorRace{t: t, rng: rand.New(rand.NewPCG(seed, 7)),
		accepted: map[spool.ID]bool{}, injected: map[spool.ID]bool{}, running: map[spool.ID]bool{}}
	sp := spool.NewMemory()
	sp.SetDelay(time.Millisecond)
	for i := range r.worlds {
		c := setup{sp: sp, handlers: map[string]Handler{"*": r.handler(false)}}
		if i > 0 {
			c.sp = sp.Attach()
		}
		c.opts.Configure = func(string) Config {
			return Config{Concurrency: 3, MaxReady: 8, Backoff: Backoff{Base: time.Minute}, MaxAge: 24 * time.Hour}
		}
		r.worlds[i] = start(t, r.handler(true), c)
	}
	synctest.Wait()
	return r
}

func (r *operatorRace) intn(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.IntN(n)
}

func (r *operatorRace) handler(inject bool) Handler {
	return func(ctx context.Context, m *Message) error {
		r.mu.Lock()
		if r.running[m.ID] {
			r.t.Errorf("%s runs twice", m.ID)
		}
		if !inject && !r.injected[m.ID] {
			r.t.Errorf("%s passed the inject callback by", m.ID)
		}
		r.running[m.ID] = true
		r.injected[m.ID] = r.injected[m.ID] || inject
		calm := r.calm
		r.mu.Unlock()
		defer func() {
			r.mu.Lock()
			delete(r.running, m.ID)
			r.mu.Unlock()
		}()
		time.Sleep(time.Duration(r.intn(50)) * time.Millisecond)
		switch n := r.intn(10); {
		case calm || ctx.Err() != nil:
		case n < 3:
			return errors.New("down")
		case n == 3:
			return Hold("look")
		case n == 4:
			return Reject(550, "no")
		}
		m.Meta["queue"] = fmt.Sprint("q", r.intn(3))
		return ctx.Err()
	}
}

func (r *operatorRace) run() {
	var all sync.WaitGroup
	for _, w := range r.worlds {
		for range 2 {
			all.Go(func() { r.send(w) })
			all.Go(func() { r.operate(w) })
		}
	}
	all.Wait()
	r.mu.Lock()
	r.calm = true
	r.mu.Unlock()
	a := r.worlds[0].sched.Admin()
	for _, q := range []string{"q0", "q1", Deferred} {
		if err := a.Resume(r.t.Context(), q); err != nil && !errors.Is(err, spool.ErrNotFound) {
			r.t.Error(err)
		}
	}
	time.Sleep(2 * time.Minute)
	if res, err := a.Release(r.t.Context(), Filter{All: true}, "end"); err != nil || res.Failed > 0 {
		r.t.Errorf("%+v, %v", res, err)
	}
	time.Sleep(48 * time.Hour)
	synctest.Wait()
	r.judge()
}

func (r *operatorRace) send(w *world) {
	for i := range 60 {
		ids, err := w.sched.Submit(context.Background(), spool.Envelope{Recipients: []spool.Recipient{{Address: fmt.Sprintf("u%d@d%d.example", i, i%3)}}}, nil, strings.NewReader(mail))
		if err != nil {
			r.t.Error(err)
			return
		}
		r.mu.Lock()
		r.accepted[ids[0]] = true
		r.mu.Unlock()
		time.Sleep(time.Duration(r.intn(200)) * time.Millisecond)
	}
}

// operate does what operators do, each as it likes.
func (r *operatorRace) operate(w *world) {
	ctx, a := context.Background(), w.sched.Admin()
	for range 60 {
		time.Sleep(time.Duration(r.intn(300)) * time.Millisecond)
		filters := []Filter{{All: true}, {Queue: "q1"}, {Domain: "d1.example"}, {MinAttempts: 1}, {States: []spool.State{spool.Queued, spool.Held}}, {Recipient: "u1"}}
		f := filters[r.intn(len(filters))]
		queue := []string{"q0", "q1", Deferred}[r.intn(3)]
		part, cancel := context.WithTimeout(ctx, time.Duration(r.intn(20))*time.Millisecond)
		var res Result
		var err error
		switch n := r.intn(20); {
		case n < 4:
			res, err = a.Retry(ctx, f, "r")
		case n < 7:
			res, err = a.Hold(part, f, "r")
		case n < 12:
			res, err = a.Release(ctx, f, "r")
		case n == 12:
			res, err = a.Bounce(part, Filter{Recipient: "u2"}, "r")
		case n == 13:
			res, err = a.Drop(ctx, Filter{Recipient: "u3"}, "r")
		case n < 16:
			res, err = a.Rebind(part, f, "q2", "r", nil)
			if f.Queue == "" {
				clear(res.Errors) // what was not processed stays
				res.Failed = 0
			}
		case n == 16:
			err = a.Suspend(ctx, queue, SuspendOptions{Reason: "r", Until: time.Now().Add(time.Second)})
		case n == 17:
			err = a.Resume(ctx, queue)
		default:
			_, err = a.List(ctx, f, spool.ID{}, 20)
		}
		cancel()
		r.mu.Lock()
		r.done, r.busy = r.done+res.Done, r.busy+res.RunningHere+res.OwnedElsewhere
		r.mu.Unlock()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, spool.ErrNotFound) && !errors.Is(err, spool.ErrBusy) {
			r.t.Error(err)
		}
		for id, err := range res.Errors {
			if !errors.Is(err, context.DeadlineExceeded) {
				r.t.Errorf("%s: %v", id, err)
			}
		}
	}
}

func (r *operatorRace) judge() {
	ends := map[spool.ID]int{}
	for _, w := range r.worlds {
		w.mu.Lock()
		for _, rec := range w.records {
			switch {
			case rec.Type == Bounce, rec.Type == AdminBounce, rec.Type == Expiration,
				rec.Type == Delivery && rec.Queue != Deferred:
				ends[rec.ID]++
			}
		}
		w.mu.Unlock()
	}
	if r.done < 100 || r.busy == 0 {
		r.t.Errorf("actions changed %d messages and met %d that were busy: this tests little", r.done, r.busy)
	}
	for id := range r.accepted {
		if ends[id] != 1 {
			r.t.Errorf("%s came to %d ends", id, ends[id])
		}
	}
	for _, e := range r.worlds[0].entries() {
		r.t.Errorf("left: %+v", e)
	}
	for _, w := range r.worlds {
		w.sched.mu.Lock()
		if w.sched.mu.bytes != 0 || len(w.sched.mu.working) != 0 || w.sched.mu.passing != 0 || w.sched.mu.looking != 0 || len(w.sched.mu.suspended) != 0 {
			r.t.Errorf("%d bytes, working %v, passing %d, looking %d, suspended %v", w.sched.mu.bytes, w.sched.mu.working,
				w.sched.mu.passing, w.sched.mu.looking, w.sched.mu.suspended)
		}
		w.sched.mu.Unlock()
	}
}
