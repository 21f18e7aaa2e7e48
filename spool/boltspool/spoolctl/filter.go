package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// suspensions is where a scheduler keeps which queues are suspended: package queue
// has the name. These entries are no messages, and only -queue shows them.
const suspensions = "suspensions.deferredqueue.internal"

// A filter selects entries.
type filter struct {
	queue, class, sender, recipient string
	state                           state
	older                           age
	attempts, limit                 int
	after                           after
}

func (f *filter) define(fs *flag.FlagSet) {
	fs.StringVar(&f.queue, "queue", "", "only those in the queue `NAME`")
	fs.StringVar(&f.class, "class", "", "only those of the class `NAME`")
	fs.Var(&f.state, "state", "only those that are queued, held or final, by `STATE`")
	fs.StringVar(&f.sender, "sender", "", "only those whose sender contains `TEXT`, upper or lower case; <> is the null sender")
	fs.StringVar(&f.recipient, "recipient", "", "only those of whose recipients one contains `TEXT`, upper or lower case")
	fs.Var(&f.older, "older", "only those that were received at least that long ago, by `DURATION`, such as 90m or 2d")
	fs.IntVar(&f.attempts, "attempts", 0, "only those with `N` failed attempts or more")
	fs.IntVar(&f.limit, "limit", 0, "`N` of them at most")
	fs.Var(&f.after, "after", "only those that come after `ID`, in the order of IDs, which is that of age")
}

// empty reports whether everything is selected.
func (f *filter) empty() bool { return *f == filter{} }

func (f *filter) match(e *spool.Entry, now time.Time) bool {
	return (e.Queue != suspensions || f.queue == suspensions) &&
		(f.class == "" || e.Class == f.class) &&
		(!f.state.set || e.State == f.state.State) &&
		matchAddress(f.sender, e.Envelope.Sender) &&
		f.matchRecipient(e) &&
		(f.older == 0 || now.Sub(e.Received) >= time.Duration(f.older)) &&
		e.Attempts >= f.attempts
}

func (f *filter) matchRecipient(e *spool.Entry) bool {
	if f.recipient == "" {
		return true
	}
	for i := range e.Envelope.Recipients {
		if matchAddress(f.recipient, e.Envelope.Recipients[i].Address) {
			return true
		}
	}
	return false
}

func matchAddress(text, address string) bool {
	if text == "<>" {
		return address == ""
	}
	return strings.Contains(strings.ToLower(address), strings.ToLower(text))
}

// scan hands out the entries that are selected. Damage is reported, and does not
// end it.
func (a *app) scan(s *boltspool.Spool, f *filter, each func(e *spool.Entry) error) error {
	n, last := 0, spool.ID{}
	for e, err := range s.Scan(a.ctx, spool.Query{Queue: f.queue, After: spool.ID(f.after)}) {
		if corrupt, ok := errors.AsType[*spool.CorruptError](err); ok {
			a.damaged(corrupt)
			continue
		}
		if err != nil {
			return err
		}
		if !f.match(e, a.now) {
			continue
		}
		if f.limit > 0 && n == f.limit {
			a.complain("there are more; they come with -after %s", last)
			return nil
		}
		n, last = n+1, e.ID
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// lookUp returns one entry. A *spool.CorruptError says that it is damaged.
func (a *app) lookUp(s *boltspool.Spool, id spool.ID) (*spool.Entry, error) {
	for e, err := range s.Scan(a.ctx, spool.Query{After: before(id)}) {
		if corrupt, ok := errors.AsType[*spool.CorruptError](err); ok && corrupt.ID != id {
			break
		}
		if err != nil {
			return nil, err
		}
		if e.ID == id {
			return e, nil
		}
		break
	}
	return nil, spool.ErrNotFound
}

// before returns the ID that comes before id.
func before(id spool.ID) spool.ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

// A state is a flag.
type state struct {
	spool.State
	set bool
}

func (s *state) String() string {
	if !s.set {
		return ""
	}
	return s.State.String()
}

func (s *state) Set(text string) error {
	for _, is := range []spool.State{spool.Queued, spool.Held, spool.Final} {
		if text == is.String() {
			*s = state{is, true}
			return nil
		}
	}
	return errors.New("want queued, held or final")
}

// An after is a flag: an ID.
type after spool.ID

func (id *after) String() string {
	if spool.ID(*id).IsZero() {
		return ""
	}
	return spool.ID(*id).String()
}

func (id *after) Set(text string) error { return (*spool.ID)(id).UnmarshalText([]byte(text)) }

// An age is a flag: a duration that may have days.
type age time.Duration

func (d *age) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

func (d *age) Set(text string) error {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n < 0 || n > 1e5 {
			return fmt.Errorf("%q is no number of days", days)
		}
		*d = age(n * 24 * float64(time.Hour))
		return nil
	}
	v, err := time.ParseDuration(text)
	if err == nil && v < 0 {
		err = errors.New("want a duration that is not negative")
	}
	*d = age(v)
	return err
}
