package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
)

// flags are those of all commands.
type flags struct {
	dir   string
	json  bool
	query recordlog.Query
}

func (f *flags) define(fs *flag.FlagSet) {
	fs.BoolVar(&f.json, "json", false, "write JSON, one object in a line")
	fs.Func("type", "only these `TYPES` of records, such as Bounce,Expiration", f.setTypes)
	fs.Func("id", "only the message with that `ID`", func(s string) error { return f.query.ID.UnmarshalText([]byte(s)) })
	fs.StringVar(&f.query.Queue, "queue", "", "only those of the queue `NAME`")
	fs.StringVar(&f.query.Sender, "sender", "", "only those of the sender `ADDRESS`")
	fs.StringVar(&f.query.Recipient, "recipient", "", "only those of the recipient `ADDRESS`")
	fs.Func("since", "not those before a `TIME`, 2006-01-02T15:04:05Z, or a time ago, 90m or 2d", func(s string) error { return setTime(&f.query.From, s) })
	fs.Func("until", "only those before a `TIME`, as with -since", func(s string) error { return setTime(&f.query.To, s) })
}

var allTypes = []queue.RecordType{
	queue.Reception, queue.Delivery, queue.Bounce, queue.TransientFailure, queue.Expiration,
	queue.AdminBounce, queue.AdminRebind, queue.Rejection, queue.Delayed,
}

func (f *flags) setTypes(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		i := slices.IndexFunc(allTypes, func(t queue.RecordType) bool { return strings.EqualFold(string(t), name) })
		if i < 0 {
			return fmt.Errorf("%q is none of %v", name, allTypes)
		}
		f.query.Types = append(f.query.Types, allTypes[i])
	}
	return nil
}

func setTime(at *time.Time, s string) error {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		*at = t
		return nil
	}
	unit := time.Duration(1)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		s, unit = days+"h", 24
	}
	ago, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is neither a time nor a duration", s)
	}
	ago *= unit
	*at = time.Now().Add(-ago)
	return nil
}
