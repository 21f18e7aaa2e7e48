package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
)

// An items is what recordlog yields.
type items = iter.Seq2[*recordlog.Item, error]

func (a *app) read() items { return recordlog.Read(a.flags.dir, &a.flags.query) }

func (a *app) cat() error { return a.print(a.read()) }

func (a *app) follow() error {
	return a.print(recordlog.Follow(a.ctx, a.flags.dir, &a.flags.query))
}

// show prints the life of a message. Its records may stand in the segments of several
// suffixes, each of which has them in the order in which they were written.
func (a *app) show() error {
	limit := a.flags.limit
	a.flags.limit = 0
	parts := map[string][]*recordlog.Item{}
	err := a.each(a.read(), func(it *recordlog.Item) error {
		_, suffix, _ := strings.Cut(it.Mark.Segment, "-")
		parts[suffix] = append(parts[suffix], it)
		return nil
	})
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return fmt.Errorf("there is no record of %s", a.flags.query.ID)
	}
	a.flags.limit = limit
	return a.print(merge(parts))
}

// merge yields what comes first of what is left of all parts, and keeps their own order.
func merge(parts map[string][]*recordlog.Item) items {
	return func(yield func(*recordlog.Item, error) bool) {
		for len(parts) > 0 {
			first := ""
			for suffix := range parts {
				if parts[first] == nil || before(parts[suffix][0], parts[first][0]) {
					first = suffix
				}
			}
			if !yield(parts[first][0], nil) {
				return
			}
			if parts[first] = parts[first][1:]; len(parts[first]) == 0 {
				delete(parts, first)
			}
		}
	}
}

// before is the order of time, and for one time that of a life.
func before(x, y *recordlog.Item) bool {
	return cmp.Or(x.Record.Time.Compare(y.Record.Time), cmp.Compare(stage(x.Record.Type), stage(y.Record.Type)), cmp.Compare(x.Mark.Segment, y.Mark.Segment)) < 0
}

func stage(t queue.RecordType) int {
	switch t {
	case queue.Reception:
		return 0
	case queue.Delayed:
		return 2
	case queue.Bounce, queue.Expiration, queue.AdminBounce:
		return 3
	}
	return 1
}

// each calls f with every record up to -limit, and reports damage.
func (a *app) each(all items, f func(*recordlog.Item) error) error {
	n := 0
	for it, err := range all {
		if damage, ok := errors.AsType[*recordlog.CorruptError](err); ok {
			a.damaged = true
			fmt.Fprintf(a.err, "recordctl: %v\n", damage)
			continue
		}
		if err == nil {
			err = f(it)
		}
		if err != nil {
			return err
		}
		if n++; a.ctx.Err() != nil || n == a.flags.limit {
			return nil
		}
	}
	return nil
}

func (a *app) print(all items) error {
	return a.each(all, func(it *recordlog.Item) error {
		if a.flags.json {
			_, err := fmt.Fprintf(a.out, "%s\n", it.JSON)
			return err
		}
		r := &it.Record
		_, err := fmt.Fprintf(a.out, "%s %s %s queue=%s from=<%s> to=%s attempts=%d %s\n",
			r.Time.UTC().Format("2006-01-02T15:04:05.000Z"), r.Type, r.ID, clean(r.Queue), clean(r.Sender), clean(strings.Join(r.Recipients, ",")), r.Attempts, clean(reply(r)))
		return err
	})
}

func reply(r *queue.Record) string {
	s := strconv.Itoa(r.Response.Code)
	if e := r.Response.Enhanced; e != ([3]int{}) {
		s += fmt.Sprintf(" %d.%d.%d", e[0], e[1], e[2])
	}
	return s + " " + r.Response.Content
}

// clean keeps what could do something to a terminal from it.
func clean(s string) string {
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// A count is a line of stats.
type count struct {
	Type    queue.RecordType `json:"type"`
	Queue   string           `json:"queue"`
	Records int64            `json:"records"`
	Bytes   int64            `json:"bytes"` // of the messages
}

func (a *app) stats() error {
	counts := map[[2]string]*count{}
	err := a.each(a.read(), func(it *recordlog.Item) error {
		key := [2]string{string(it.Record.Type), it.Record.Queue}
		if counts[key] == nil {
			counts[key] = &count{Type: it.Record.Type, Queue: it.Record.Queue}
		}
		counts[key].Records++
		counts[key].Bytes += it.Record.Size
		return nil
	})
	if err != nil {
		return err
	}
	var rows []*count
	for _, c := range counts {
		rows = append(rows, c)
	}
	slices.SortFunc(rows, func(x, y *count) int { return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Queue, y.Queue)) })
	if a.flags.json {
		for _, c := range rows {
			if err := json.NewEncoder(a.out).Encode(c); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TYPE\tQUEUE\tRECORDS\tBYTES")
	for _, c := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", c.Type, clean(c.Queue), c.Records, c.Bytes)
	}
	return w.Flush()
}
