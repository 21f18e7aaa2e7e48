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
	dir               string
	json, new         bool
	limit             int
	sender, recipient string
	query             recordlog.Query
}

func (f *flags) define(fs *flag.FlagSet) {
	fs.BoolVar(&f.json, "json", false, "write JSON, one object in a line")
	fs.Func("type", "only these `TYPES` of records, such as Bounce,Expiration", f.setTypes)
	fs.Func("id", "only the message with that `ID`", func(s string) error { return f.query.ID.UnmarshalText([]byte(s)) })
	fs.StringVar(&f.query.Queue, "queue", "", "only those of the queue `NAME`")
	fs.StringVar(&f.sender, "sender", "", "only those whose sender contains `TEXT`, upper or lower case; <> is the null sender")
	fs.StringVar(&f.recipient, "recipient", "", "only those of whose recipients one contains `TEXT`, upper or lower case")
	fs.Func("since", "not those before a `TIME`, 2006-01-02T15:04:05Z, or a time ago, 90m or 2d", func(s string) error { return setTime(&f.query.From, s) })
	fs.Func("until", "only those before a `TIME`, as with -since", func(s string) error { return setTime(&f.query.To, s) })
	fs.IntVar(&f.limit, "limit", 0, "`N` of them at most, the first ones")
	fs.BoolVar(&f.new, "new", false, "of follow: begin now, and not with what there is")
	f.query.Filter = f.match
}

func (f *flags) match(r *queue.Record) bool {
	return matchAddress(f.sender, r.Sender) &&
		(f.recipient == "" || slices.ContainsFunc(r.Recipients, func(s string) bool { return matchAddress(f.recipient, s) }))
}

// matchAddress is that of spoolctl.
func matchAddress(text, address string) bool {
	if text == "<>" {
		return address == ""
	}
	return strings.Contains(strings.ToLower(address), strings.ToLower(text))
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
