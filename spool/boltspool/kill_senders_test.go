package boltspool_test

import (
	"context"
	"errors"
	"net/textproto"
	"slices"
	"sync"
	"testing"
	"time"
)

// retryAfter is how long a sender waits once it was refused.
const retryAfter = 10 * time.Millisecond

// Senders are clients that try again whatever they are told, and note it.
type senders struct {
	bag  *mailbag
	next func() (content []byte, kinds []string)

	mu struct {
		sync.Mutex
		dealings []dealing
	}
	refused chan struct{} // a hint after each refusal
}

// A dealing is one transaction of a sender, or what there was of it.
type dealing struct {
	begun, ended time.Time
	err          error // nil: acknowledged; a *textproto.Error: refused; else the connection broke
}

// refusal returns the reply that refused the message, if one did.
func (d dealing) refusal() (*textproto.Error, bool) {
	return errors.AsType[*textproto.Error](d.err)
}

func newSenders(bag *mailbag, next func() ([]byte, []string)) *senders {
	return &senders{bag: bag, next: next, refused: make(chan struct{}, 1)}
}

// start lets n senders deliver until the host no longer listens. stop ends them
// earlier; they are joined when it returns.
func (s *senders) start(t *testing.T, addr string, n int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for s.connect(ctx, addr) {
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// connect delivers by one connection until it ends. It reports whether another
// can be tried.
func (s *senders) connect(ctx context.Context, addr string) (again bool) {
	begun := time.Now()
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, _, err = c.ReadResponse(220); err == nil {
		err = command(c, 250, "EHLO client.example")
	}
	if err != nil {
		s.note(dealing{begun, time.Now(), err})
	}
	for err == nil {
		err = s.deal(ctx, c)
	}
	return ctx.Err() == nil
}

// deal is one transaction. Its error says that the connection is of no use any
// more.
func (s *senders) deal(ctx context.Context, c *textproto.Conn) error {
	content, kinds := s.next()
	begun := time.Now()
	err := s.bag.send(c, content, kinds...)
	if ctx.Err() != nil && err != nil {
		return err
	}
	s.note(dealing{begun, time.Now(), err})
	if reply, ok := errors.AsType[*textproto.Error](err); !ok || reply.Code == 421 {
		return err
	}
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return command(c, 250, "RSET")
}

func (s *senders) note(d dealing) {
	s.mu.Lock()
	s.mu.dealings = append(s.mu.dealings, d)
	s.mu.Unlock()
	if _, ok := d.refusal(); ok {
		select {
		case s.refused <- struct{}{}:
		default:
		}
	}
}

// dealings returns those so far, in the order in which they ended.
func (s *senders) dealings() []dealing {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.mu.dealings)
	slices.SortFunc(list, func(a, b dealing) int { return a.ended.Compare(b.ended) })
	return list
}
