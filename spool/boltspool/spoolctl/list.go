package main

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strconv"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// errorWidth is how much of the last error a table shows.
const errorWidth = 60

func (a *app) defineOutput(fs *flag.FlagSet) {
	fs.BoolVar(&a.utc, "utc", false, "show times in UTC, and not in the local zone")
	fs.BoolVar(&a.json, "json", false, "write JSON, one object in a line, and not text")
}

func listCommand() *command {
	return &command{
		name: "list", args: "DIR [flags]", short: "list messages",
		long: `
Lists the messages of the spool in DIR, in the order of their IDs, which is that of
their age: the ID, queue and class, state, when it is due and how long ago it was
received, failed attempts, size of the content, sender, first recipient and how
many more, and the last error. With -json it is all that the spool knows of a
message, as in show. What is damaged is named on standard error.

Pages: -limit 100, and then the same with -after and the last ID of the page.

Which queues are suspended is no message: -queue ` + suspensions + `
lists it.`,
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			var f filter
			f.define(fs)
			a.defineOutput(fs)
			return func(args []string) error {
				dir, err := oneDir(args)
				if err != nil {
					return err
				}
				return a.look(dir, func(s *boltspool.Spool) error { return a.list(s, &f) })
			}
		},
	}
}

func (a *app) list(s *boltspool.Spool, f *filter) error {
	if a.json {
		return a.scan(s, f, func(e *spool.Entry) error { return a.writeJSON(a.view(e)) })
	}
	t := a.table("ID", "QUEUE", "CLASS", "STATE", "DUE"+a.zoneName(), ">AGE", ">ATTEMPTS", ">SIZE", "SENDER", "RECIPIENT", "ERROR")
	defer t.flush()
	return a.scan(s, f, func(e *spool.Entry) error {
		t.add(e.ID.String(), clean(e.Queue), clean(e.Class), e.State.String(), a.moment(e.Due), span(a.now.Sub(e.Received)),
			strconv.Itoa(e.Attempts), strconv.FormatInt(e.Size, 10), address(e.Envelope.Sender), firstRecipient(e), short(clean(e.LastError), errorWidth))
		return nil
	})
}

// zoneName goes behind the head of a column of times.
func (a *app) zoneName() string {
	if a.utc {
		return " (UTC)"
	}
	return ""
}

func firstRecipient(e *spool.Entry) string {
	rs := e.Envelope.Recipients
	switch len(rs) {
	case 0:
		return "-"
	case 1:
		return address(rs[0].Address)
	}
	return fmt.Sprintf("%s +%d", address(rs[0].Address), len(rs)-1)
}

func queuesCommand() *command {
	return &command{
		name: "queues", args: "DIR [flags]", short: "count messages by queue, class and state",
		long: `
Counts the messages of the spool in DIR for each queue, class and state: how many,
the sum of their sizes, how long ago the oldest was received, about, and when the
next is due.`,
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			a.defineOutput(fs)
			return func(args []string) error {
				dir, err := oneDir(args)
				if err != nil {
					return err
				}
				return a.look(dir, a.queues)
			}
		},
	}
}

// A queueView is a spool.QueueInfo as JSON.
type queueView struct {
	Queue   string `json:"queue"`
	Class   string `json:"class"`
	State   string `json:"state"`
	Entries int64  `json:"entries"`
	Bytes   int64  `json:"bytes"`
	Oldest  moment `json:"oldest,omitzero"`
	NextDue moment `json:"next_due,omitzero"`
}

func (a *app) queues(s *boltspool.Spool) error {
	var infos []spool.QueueInfo
	for info, err := range s.Queues(a.ctx) {
		if err != nil {
			return err
		}
		if info.Queue == suspensions {
			continue
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(x, y spool.QueueInfo) int {
		return cmp.Or(cmp.Compare(x.Queue, y.Queue), cmp.Compare(x.Class, y.Class), cmp.Compare(x.State, y.State))
	})
	t := a.table("QUEUE", "CLASS", "STATE", ">ENTRIES", ">BYTES", ">OLDEST", "NEXT DUE"+a.zoneName())
	for _, info := range infos {
		v := queueView{info.Queue, info.Class, info.State.String(), info.Entries, info.Bytes, moment{}, moment{}}
		oldest, due := "-", "-"
		if info.Oldest.Unix() > 0 { // else it is not known
			v.Oldest, oldest = moment(info.Oldest.In(a.zone)), span(a.now.Sub(info.Oldest))
		}
		if !info.NextDue.IsZero() {
			v.NextDue, due = moment(info.NextDue.In(a.zone)), a.moment(info.NextDue)
		}
		if !a.json {
			t.add(clean(v.Queue), clean(v.Class), v.State, strconv.FormatInt(v.Entries, 10), strconv.FormatInt(v.Bytes, 10), oldest, due)
		} else if err := a.writeJSON(v); err != nil {
			return err
		}
	}
	if !a.json {
		t.flush()
	}
	return nil
}
