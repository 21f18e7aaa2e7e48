package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"
	"unsafe"

	"github.com/deferredqueue/deferredqueue/spool"
)

// An Arrival is a [Transaction] whose messages are about to be stored: see
// [Options.Arriving].
type Arrival struct {
	Begun   time.Time      // when the Transaction was
	Size    int64          // of the body, without trace fields
	Entries []*spool.Entry // one for each message; they may share their metadata
}

// SetMeta puts something into the metadata of all messages.
func (a *Arrival) SetMeta(key, value string) {
	for _, e := range a.Entries {
		if e.Meta == nil {
			e.Meta = map[string]string{}
		}
		e.Meta[key] = value
	}
}

// ownMeta gives entries metadata that nothing else has, those that share them the same:
// whoever brought them may use his for other messages, too.
func ownMeta(entries []*spool.Entry) {
	copies := map[unsafe.Pointer]map[string]string{}
	for _, e := range entries {
		was := reflect.ValueOf(e.Meta).UnsafePointer()
		if copies[was] == nil {
			copies[was] = maps.Clone(e.Meta)
		}
		if e.Meta != nil {
			e.Meta = copies[was]
		}
	}
}

// errNotAccepted is what Options.Arriving is told of messages that were given up.
var errNotAccepted = errors.New("queue: the messages were given up before they were stored")

// arriving tells the host of a Transaction, and contains its panic.
func (t *Transaction) arriving(ctx context.Context, entries []*spool.Entry) {
	hook := t.s.opts.Arriving
	if hook == nil || t.arrived != nil {
		return
	}
	ownMeta(entries)
	defer t.contain()
	t.arrived = hook(ctx, &Arrival{Begun: t.begun, Size: t.size, Entries: entries})
	if t.arrived == nil {
		t.arrived = func(time.Time, error) {}
	}
}

// tellArrived says what became of it, once.
func (t *Transaction) tellArrived(err error) {
	if t.arrived == nil || t.told {
		return
	}
	t.told = true
	defer t.contain()
	at := t.storedAt
	if err != nil {
		at = time.Now()
	}
	t.arrived(at, err)
}

func (t *Transaction) contain() {
	if p := recover(); p != nil {
		t.s.log.Error("queue: Options.Arriving panicked; the message is dealt with as if it had not", "panic", fmt.Sprint(p))
	}
}
