package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A shapeModel is a scheduler whose queues are shaped at random, again and again,
// while messages come in.
type shapeModel struct {
	t      *testing.T
	random *rand.Rand
	w      *world

	mu      sync.Mutex
	moods   *rand.Rand // of the handlers
	configs map[string]Config
	calls   map[spool.ID]int
	running map[string]int
	most    map[string]int // that was allowed at the last start
}

var modelQueues = []string{Deferred, "a@example.com", "b@example.com", "c@example.com", "d@example.com"}

func (m *shapeModel) configure(name string) Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.configs[name]
}

// shape makes up a Config.
func (m *shapeModel) shape(name string) {
	c := Config{Concurrency: 1 + m.random.IntN(6), MaxReady: 1 + m.random.IntN(40), Backoff: Backoff{Base: time.Duration(1+m.random.IntN(100)) * time.Second}}
	if m.random.IntN(3) == 0 {
		c.Rate = Rate{N: 1 + m.random.IntN(20), Per: time.Duration(1+m.random.IntN(60)) * time.Second, Burst: m.random.IntN(5)}
	}
	if m.random.IntN(3) == 0 {
		c.Weights = map[string]int{"0": 1 + m.random.IntN(5), "1": m.random.IntN(3)}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.configs[name] = c
	m.most[name] = max(m.most[name], c.Concurrency)
}

// handle takes a while, and fails at times.
func (m *shapeModel) handle(ctx context.Context, msg *Message) error {
	m.mu.Lock()
	m.running[msg.Queue]++
	if n := m.running[msg.Queue]; n > m.most[msg.Queue] {
		m.t.Errorf("%d handlers of %s at once, more than %d", n, msg.Queue, m.most[msg.Queue])
	}
	takes := time.Duration(m.moods.IntN(4)) * time.Duration(m.moods.IntN(2000)) * time.Millisecond
	fails := m.moods.IntN(10) == 0
	m.mu.Unlock()
	slept := sleep(ctx, takes)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[msg.Queue]--
	switch {
	case !slept:
		return ctx.Err()
	case fails:
		return errors.New("down")
	}
	m.calls[msg.ID]++
	if msg.Queue == Deferred {
		msg.Meta["queue"] = modelQueues[1+m.moods.IntN(4)]
	}
	return nil
}

// step does something at random.
func (m *shapeModel) step() {
	name := modelQueues[m.random.IntN(len(modelQueues))]
	class := fmt.Sprint(m.random.IntN(1 + m.random.IntN(40)))
	switch m.random.IntN(10) {
	case 0, 1, 2:
		put(m.t, m.w.sp, name, class, 1+m.random.IntN(60), time.Now().Add(time.Duration(m.random.IntN(3)*m.random.IntN(30))*time.Second))
	case 3, 4:
		for range 1 + m.random.IntN(20) {
			m.w.submit("x@example.com", map[string]string{"tenant": class}, mail)
		}
	case 5:
		other := m.w.sp.Attach()
		put(m.t, other, name, class, 1+m.random.IntN(30), time.Now())
		other.Close()
	case 6:
		m.shape(name)
		m.w.sched.Reconfigure()
	case 7:
		all := map[string]suspension{}
		for range m.random.IntN(3) {
			s := suspension{}
			if m.random.IntN(2) == 0 {
				s.until = time.Now().Add(time.Duration(m.random.IntN(20)) * time.Second)
			}
			all[modelQueues[m.random.IntN(len(modelQueues))]] = s
		}
		m.w.sched.setSuspended(all)
	default:
		pass(time.Duration(m.random.IntN(5000)) * time.Millisecond)
	}
}

// TestShapeModel: however the queues are shaped, each message is run, and nothing
// is left in memory.
func TestShapeModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &shapeModel{t: t, random: rand.New(rand.NewPCG(seed, 7)), moods: rand.New(rand.NewPCG(seed, 8)), configs: map[string]Config{},
					calls: map[spool.ID]int{}, running: map[string]int{}, most: map[string]int{}}
				for _, name := range modelQueues {
					m.shape(name)
				}
				limit := int64(10+m.random.IntN(300)) << 10
				m.w = start(t, m.handle, setup{handlers: map[string]Handler{"*": m.handle},
					opts: Options{MemoryLimit: limit, Configure: m.configure}})
				for range 60 {
					m.step()
				}
				m.w.sched.setSuspended(nil)
				pass(3 * time.Hour)
				m.mu.Lock()
				clear(m.configs)
				for _, name := range modelQueues {
					m.most[name] = 64
				}
				m.mu.Unlock()
				m.w.sched.Reconfigure()
				pass(8 * 24 * time.Hour)
				if left := len(m.w.entries()); left != 0 {
					t.Errorf("%d messages are left", left)
				}
				m.mu.Lock()
				for id, n := range m.calls {
					if n > 2 { // in the deferred queue and in the next one
						t.Errorf("%s was run %d times with success", id, n)
					}
				}
				m.mu.Unlock()
				m.w.atRest()
			})
		})
	}
}
