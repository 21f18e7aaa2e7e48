package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A sessionConf is how the host of a fuzzed session is set up.
type sessionConf struct {
	deferred, lmtp, perDomain, authRequired bool
	secure                                  bool // TLS from the beginning
	wrapped                                 bool // under a go-smtp server of the host's
	inMemory                                bool // DeferredSpool
	plain                                   bool // and on connections that are not ours
	endings                                 LineEndings
	limits                                  Limits
	chop                                    int // octets per write
}

// sessionConfOf reads the bits of a fuzzer's number.
func sessionConfOf(bits uint16) sessionConf {
	c := sessionConf{
		deferred: bits&1 == 0, lmtp: bits&2 != 0, perDomain: bits&4 != 0, authRequired: bits&8 != 0,
		secure: bits&0x800 != 0, inMemory: bits&0x1001 == 0x1000,
		endings: []LineEndings{Deny, Allow, Fix, Deny}[bits>>6&3],
		limits:  Limits{Recipients: 20, MessageSize: 4000, LineLength: 998, Hops: 5, Errors: 20, ProcessingTimeout: 10 * time.Second},
		chop:    []int{0, 1, 2, 3, 7, 64, 0, 0}[bits>>8&7],
	}
	if bits&16 != 0 {
		c.limits.MessageSize, c.limits.LineLength, c.limits.Recipients, c.limits.Hops = 100, 60, 3, 1
	}
	if bits&32 != 0 {
		c.limits.Errors = 3
	}
	return c
}

// batches is how the recipients of a transaction are divided.
func (c *sessionConf) batches(rcpts []string) (groups [][]string) {
	byDomain := map[string]int{}
	for _, r := range rcpts {
		domain := strings.ToLower(r[strings.LastIndexByte(r, '@')+1:])
		if !strings.Contains(r, "@") {
			domain = ""
		}
		if n, ok := byDomain[domain]; ok && c.perDomain {
			groups[n] = append(groups[n], r)
			continue
		}
		byDomain[domain] = len(groups)
		groups = append(groups, []string{r})
	}
	return groups
}

// batchOf is the group that the i-th recipient is in.
func (c *sessionConf) batchOf(rcpts []string, i int) []string {
	for _, g := range c.batches(rcpts) {
		if c.perDomain && slices.Contains(g, rcpts[i]) {
			return g
		}
	}
	return rcpts[i : i+1]
}

// policyVerdicts are what the callback makes of a message, the strongest first. temp,
// slow and panic are so at the first attempt only.
var policyVerdicts = []string{"reject", "drop", "hold", "temp", "slow", "panic"}

// verdictOf is the verdict on a message: it stands in a local part or in the
// content.
func verdictOf(rcpts []string, content string) string {
	for _, v := range policyVerdicts {
		for _, r := range rcpts {
			if r == "?" {
				return "?"
			}
			if strings.HasPrefix(r, v+"@") {
				return v
			}
		}
		if strings.Contains(content, "X-Verdict: "+v) {
			return v
		}
	}
	return "ok"
}

// A sessionHost is something that listens and whose callback goes by verdictOf and binds for
// another queue, which takes everything.
type sessionHost struct {
	sched *queue.Scheduler
	sp    *spool.Memory
	ln    *pipeListener

	serve    func(net.Listener) error
	shutdown func(context.Context) error
	close    func() error

	mu struct {
		sync.Mutex
		called, delivered []hostMessage
		ended             map[string][]queue.RecordType // final records
	}
}

// A hostMessage is a message as a handler saw it.
type hostMessage struct {
	id, content string
	env         spool.Envelope
	attempt     int
}

// newSessionHost returns a host that is a Listener.
func newSessionHost(t *testing.T, conf sessionConf, cert tls.Certificate) *sessionHost {
	t.Helper()
	h := newPolicyHost(t)
	opts := h.options(conf)
	opts.LMTP, opts.Limits.Recipients, opts.Limits.Errors = conf.lmtp, conf.limits.Recipients, conf.limits.Errors
	opts.Auth = Auth{Password: sessionPassword, AllowPlaintext: true, Require: conf.authRequired}
	if conf.secure {
		opts.TLS = TLS{Implicit: true, Config: &tls.Config{Certificates: []tls.Certificate{cert}}}
	}
	l, err := NewListener(h.sched, opts)
	if err != nil {
		t.Fatal(err)
	}
	h.serve, h.shutdown, h.close = l.Serve, l.Shutdown, l.Close
	return h
}

// newPolicyHost returns a host that does not listen yet.
func newPolicyHost(t *testing.T) *sessionHost {
	t.Helper()
	h := &sessionHost{sp: spool.NewMemory(), ln: newPipeListener()}
	h.mu.ended = map[string][]queue.RecordType{}
	var err error
	h.sched, err = queue.NewScheduler(h.sp, h.inject, &queue.Options{Logger: discardLogger(), Record: h.record})
	if err == nil {
		err = h.sched.Handle("out", h.deliver)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// options are those that a Listener and Wrap have in common.
func (h *sessionHost) options(conf sessionConf) *Options {
	opts := &Options{
		DeferredQueue: conf.deferred, DeferredSpool: conf.inMemory, InvalidLineEndings: conf.endings,
		Limits: conf.limits, Logger: discardLogger(), Hostname: "mx.example.com",
	}
	opts.Limits.Recipients, opts.Limits.Errors = 0, 0
	if conf.perDomain {
		opts.Batch = queue.PerDomain
	}
	return opts
}

func sessionPassword(_ context.Context, _ *Session, _, username, password string) error {
	switch {
	case password == "down":
		return errors.New("the directory does not answer")
	case username != "user" || password != "secret":
		return queue.Reject(535, "5.7.8 wrong")
	}
	return nil
}

func (h *sessionHost) record(_ context.Context, r queue.Record) error {
	switch r.Type {
	case queue.Bounce, queue.AdminBounce, queue.Expiration:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.mu.ended[r.ID.String()] = append(h.mu.ended[r.ID.String()], r.Type)
	}
	return nil
}

// inject is the callback.
func (h *sessionHost) inject(ctx context.Context, m *queue.Message) error {
	msg, err := seen(m)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.mu.called = append(h.mu.called, msg)
	h.mu.Unlock()
	m.Meta["queue"] = "out"
	verdict := verdictOf(addresses(m.Envelope), msg.content)
	switch {
	case verdict == "reject":
		return queue.Reject(550, "5.1.1 rejected")
	case verdict == "drop":
		return queue.Drop("dropped")
	case verdict == "hold":
		return queue.Hold("held")
	case m.Attempt > 1:
		return nil
	case verdict == "temp":
		return errors.New("later")
	case verdict == "slow":
		<-ctx.Done()
		return ctx.Err()
	case verdict == "panic":
		panic("panic")
	}
	return nil
}

// deliver is the handler of the queue that the callback binds for.
func (h *sessionHost) deliver(_ context.Context, m *queue.Message) error {
	msg, err := seen(m)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.delivered = append(h.mu.delivered, msg)
	return nil
}

func seen(m *queue.Message) (hostMessage, error) {
	body, err := m.Open()
	if err != nil {
		return hostMessage{}, err
	}
	content, err := io.ReadAll(body)
	return hostMessage{id: m.ID.String(), content: string(content), env: m.Envelope.Clone(), attempt: m.Attempt}, err
}

func addresses(env spool.Envelope) []string {
	list := make([]string, len(env.Recipients))
	for i, r := range env.Recipients {
		list[i] = r.Address
	}
	return list
}

// held returns what is in the spool and on hold, and an error if there is more.
func (h *sessionHost) held() (ids map[string]bool, err error) {
	ids = map[string]bool{}
	for e, scanErr := range h.sp.Scan(context.Background(), spool.Query{}) {
		switch {
		case scanErr != nil:
			return nil, scanErr
		case e.State != spool.Held:
			return nil, fmt.Errorf("message %s is left in state %v of queue %s", e.ID, e.State, e.Queue)
		}
		ids[e.ID.String()] = true
	}
	return ids, nil
}
