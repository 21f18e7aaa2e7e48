package prometheus

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// Other is the value of the label queue for all queues without series of their own, and
// of the label class for all classes that Options.Classes has no label for.
const Other = "(other)"

// Options configure a Collector. The zero value, and a nil *Options, are ready to use.
type Options struct {
	// MaxQueues is how many queues have series of their own, beside the deferred
	// queue: those with the most messages, and before them those of Queues. A negative
	// value means none.
	// Defaults to 20.
	MaxQueues int

	// Queues are names of queues that always have series of their own.
	// Defaults to none.
	Queues []string

	// Classes adds series for classes of messages that wait, in each queue that has
	// series of its own: of those 16 classes at most whose messages wait longest. It
	// is called with a class and returns its label; classes with one label are summed
	// up, and those with an empty one are counted as (other).
	//
	// A class may be a tenant, but also who authenticated, which may be an address, or
	// the network of a client: Classes should return a label for tenants that it knows,
	// and empty for all else. It is called for each of them at each scrape, concurrently.
	// Defaults to nil, which means no series for classes.
	Classes func(class string) string

	// Labels are put on all series, such as the name of the instance.
	// Defaults to none.
	Labels prometheus.Labels
}

// A Collector collects the metrics of one Scheduler. It is safe for concurrent use.
type Collector struct {
	sched *queue.Scheduler
	opts  Options
	d     descs
}

// spoolStats is what the embedded spool says of itself.
type spoolStats interface{ Stats() boltspool.Stats }

// NewCollector returns a Collector, to be registered. Where two are registered at one
// registry, Options.Labels must tell them apart. nil opts are the defaults.
func NewCollector(sched *queue.Scheduler, opts *Options) (*Collector, error) {
	if sched == nil {
		return nil, errors.New("prometheus: NewCollector: the scheduler is nil")
	}
	c := &Collector{sched: sched}
	if opts != nil {
		c.opts = *opts
	}
	switch n := c.opts.MaxQueues; {
	case n == 0:
		c.opts.MaxQueues = 20
	case n < 0:
		c.opts.MaxQueues = 0
	}
	if c.opts.MaxQueues > 10_000 {
		return nil, fmt.Errorf("prometheus: Options.MaxQueues is %d: want at most 10000, or every scrape has as many series", c.opts.MaxQueues)
	}
	c.d = newDescs(c.opts.Labels)
	return c, nil
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.d.all {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	st := c.sched.Stats()
	m := metrics{ch: ch, now: st.Time}
	c.collectTotals(m, &st)
	for _, q := range c.queues(st.Queues) {
		m.queue(&c.d, &q)
		if c.opts.Classes != nil && q.Name != Other {
			m.classes(&c.d, &q, c.opts.Classes)
		}
	}
	if sp, ok := c.sched.Spool().(spoolStats); ok {
		m.spool(&c.d, sp.Stats())
	}
}

func (c *Collector) collectTotals(m metrics, st *queue.Stats) {
	for t, d := range c.d.records {
		n := st.Outcomes[t]
		if t == queue.Delivery {
			n -= st.Rebound
		}
		m.counter(d, float64(n))
	}
	m.counter(c.d.rebound, float64(st.Rebound))
	for cause, n := range st.Retries {
		m.counter(c.d.retries, float64(n), string(cause))
	}
	m.histogram(c.d.untilInject, st.UntilInject)
	m.histogram(c.d.inject, st.InjectTime)
	m.histogram(c.d.handler, st.HandlerTime)
	m.gauge(c.d.recordsWaiting, float64(st.Records))
	m.counter(c.d.recordsDropped, float64(st.Dropped))
	m.gauge(c.d.kept, float64(st.Kept))
	m.gauge(c.d.keptBytes, float64(st.KeptBytes))
	m.gauge(c.d.unrouted, float64(st.Unrouted))
	m.gauge(c.d.damaged, float64(st.Damaged))
	m.gauge(c.d.queues, float64(len(st.Queues)))
	m.gauge(c.d.oldest, m.age(st.OldestWaiting))
	m.gauge(c.d.accepting, oneIf(c.sched.Ready() == nil))
	m.gauge(c.d.readable, oneIf(st.Err == nil))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// queues returns those that have series of their own, and the sum of the others.
func (c *Collector) queues(all []queue.QueueStats) []queue.QueueStats {
	all = labelled(all)
	own := func(q queue.QueueStats) int {
		if q.Name == queue.Deferred || slices.Contains(c.opts.Queues, q.Name) {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b queue.QueueStats) int {
		return cmp.Or(cmp.Compare(own(b), own(a)), cmp.Compare(size(b), size(a)), cmp.Compare(a.Name, b.Name))
	})
	n := 0
	for n < len(all) && own(all[n]) == 1 {
		n++
	}
	if n = min(n+c.opts.MaxQueues, len(all)); n == len(all) {
		return all
	}
	other := queue.QueueStats{Name: Other}
	for _, q := range all[n:] {
		add(&other, q)
	}
	for i, q := range all[:n] {
		if q.Name == Other { // the name of a queue
			add(&all[i], other)
			return all[:n]
		}
	}
	return append(slices.Clip(all[:n]), other)
}

// labelled gives queues and classes names that a label may have. They come from mail:
// one that cannot be a label must not take all metrics away.
func labelled(all []queue.QueueStats) []queue.QueueStats {
	place := map[string]int{}
	some := make([]queue.QueueStats, 0, len(all))
	for _, q := range all {
		q.Name = label(q.Name)
		if at, known := place[q.Name]; known {
			add(&some[at], q)
			continue
		}
		place[q.Name] = len(some)
		some = append(some, q)
	}
	return some
}

func label(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

// add counts the messages of q in sum, but for its classes.
func add(sum *queue.QueueStats, q queue.QueueStats) {
	sum.Ready += q.Ready
	sum.Scheduled += q.Scheduled
	sum.Held += q.Held
	sum.Final += q.Final
	sum.Bytes += q.Bytes
	sum.Running += q.Running
	sum.Overdue += q.Overdue
	sum.OldestWaiting = older(sum.OldestWaiting, q.OldestWaiting)
}

// older returns the earlier one of two times that are not zero.
func older(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func size(q queue.QueueStats) int64 {
	return q.Ready + q.Scheduled + q.Held + q.Final + int64(q.Running)
}

// metrics sends the metrics of one scrape.
type metrics struct {
	ch  chan<- prometheus.Metric
	now time.Time
}

func (m metrics) counter(d *prometheus.Desc, v float64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (m metrics) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// age is how long ago something was; 0 if it never was.
func (m metrics) age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(m.now.Sub(t).Seconds(), 0)
}

// histogram leaves out three of four bounds: each is twice the one before.
func (m metrics) histogram(d *prometheus.Desc, h queue.Histogram) {
	buckets := map[float64]uint64{}
	i := 0
	for le, n := range h.Buckets() {
		if i%4 == 0 {
			buckets[le.Seconds()] = uint64(n)
		}
		i++
	}
	m.ch <- prometheus.MustNewConstHistogram(d, uint64(h.Count), h.Sum, buckets)
}

func (m metrics) queue(d *descs, q *queue.QueueStats) {
	m.gauge(d.ready, float64(q.Ready), q.Name)
	m.gauge(d.scheduled, float64(q.Scheduled), q.Name)
	m.gauge(d.held, float64(q.Held), q.Name)
	m.gauge(d.final, float64(q.Final), q.Name)
	m.gauge(d.running, float64(q.Running), q.Name)
	m.gauge(d.overdue, float64(q.Overdue), q.Name)
	m.gauge(d.bytes, float64(q.Bytes), q.Name)
	m.gauge(d.queueOldest, m.age(q.OldestWaiting), q.Name)
}

// classes sums up the classes of a queue that have one label.
func (m metrics) classes(d *descs, q *queue.QueueStats, name func(class string) string) {
	type waiting struct {
		n      int64
		oldest time.Time
	}
	sums := map[string]waiting{}
	for _, class := range q.Classes {
		name := cmp.Or(label(name(class.Class)), Other)
		sum := sums[name]
		sums[name] = waiting{sum.n + class.Waiting, older(sum.oldest, class.OldestWaiting)}
	}
	for name, sum := range sums {
		m.gauge(d.classWaiting, float64(sum.n), q.Name, name)
		m.gauge(d.classOldest, m.age(sum.oldest), q.Name, name)
	}
}

func (m metrics) spool(d *descs, st boltspool.Stats) {
	m.gauge(d.spoolEntries, float64(st.Entries))
	m.gauge(d.spoolBytes, float64(st.Bytes))
	m.counter(d.spoolGroups, float64(st.Groups))
	m.counter(d.spoolChanges, float64(st.Changes))
	m.counter(d.spoolWritten, float64(st.Written))
	m.gauge(d.spoolSegments, float64(st.Segments))
	m.gauge(d.spoolSegmentBytes, float64(st.SegmentBytes))
	m.gauge(d.spoolLiveBytes, float64(st.LiveBytes))
	m.gauge(d.spoolSpareBytes, float64(st.SpareBytes))
	m.counter(d.spoolCheckpoints, float64(st.Checkpoints))
	m.counter(d.spoolMoved, float64(st.Moved))
	m.gauge(d.spoolSetAside, float64(st.SetAside))
}
