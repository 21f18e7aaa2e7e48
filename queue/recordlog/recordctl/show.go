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

func (a *app) cat() error { return a.print(recordlog.Read(a.flags.dir, &a.flags.query)) }

func (a *app) follow() error {
	return a.print(recordlog.Follow(a.ctx, a.flags.dir, &a.flags.query))
}

func (a *app) show() error {
	n := 0
	count := func(yield func(*recordlog.Item, error) bool) {
		for it, err := range recordlog.Read(a.flags.dir, &a.flags.query) {
			if it != nil {
				n++
			}
			if !yield(it, err) {
				return
			}
		}
	}
	if err := a.print(count); err != nil || n > 0 {
		return err
	}
	return fmt.Errorf("there is no record of %s", a.flags.query.ID)
}

// each calls f with every record, and reports damage.
func (a *app) each(items iter.Seq2[*recordlog.Item, error], f func(*recordlog.Item) error) error {
	for it, err := range items {
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
		if a.ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

func (a *app) print(items iter.Seq2[*recordlog.Item, error]) error {
	return a.each(items, func(it *recordlog.Item) error {
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
	err := a.each(recordlog.Read(a.flags.dir, &a.flags.query), func(it *recordlog.Item) error {
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
