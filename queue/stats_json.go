package queue

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"time"
)

// maxQueuesJSON bounds the queues that the JSON of Stats names: there is one
// for each domain.
const maxQueuesJSON = 256

// MarshalJSON returns st with names in snake_case and durations in seconds: in
// the place of OldestWaiting its age at st.Time, which is null where nothing
// waits. Of more than 256 queues it has those with the most messages, still by
// name, and counts the others in more_queues. Err is its text.
func (st Stats) MarshalJSON() ([]byte, error) {
	type plain Stats
	type class struct {
		ClassStats
		Oldest *float64 `json:"oldest_waiting_seconds"`
	}
	type queue struct {
		QueueStats
		Oldest  *float64 `json:"oldest_waiting_seconds"`
		Classes []class  `json:"classes"`
	}
	chosen := mostFilled(st.Queues, maxQueuesJSON)
	queues := make([]queue, len(chosen))
	for i, q := range chosen {
		queues[i] = queue{QueueStats: q, Oldest: st.age(q.OldestWaiting), Classes: []class{}}
		for _, c := range q.Classes {
			queues[i].Classes = append(queues[i].Classes, class{c, st.age(c.OldestWaiting)})
		}
	}
	rates := make(map[RecordType]float64, len(st.Rates))
	for t, r := range st.Rates {
		rates[t] = math.Round(r*1000) / 1000
	}
	failure := ""
	if st.Err != nil {
		failure = oneLine(st.Err.Error())
	}
	return json.Marshal(struct {
		plain
		Oldest     *float64               `json:"oldest_waiting_seconds"`
		Rates      map[RecordType]float64 `json:"rates"`
		Queues     []queue                `json:"queues"`
		MoreQueues int                    `json:"more_queues"`
		Error      string                 `json:"error,omitempty"`
	}{plain(st), st.age(st.OldestWaiting), rates, queues, len(st.Queues) - len(chosen), failure})
}

// age returns how many seconds ago t was; nil if it is no time.
func (st Stats) age(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	return new(inSeconds(max(st.Time.Sub(t), 0)))
}

// mostFilled returns the n queues with the most messages in the order of queues.
func mostFilled(queues []QueueStats, n int) []QueueStats {
	if len(queues) <= n {
		return queues
	}
	filled := func(q QueueStats) int64 { return q.Ready + q.Scheduled + q.Held + q.Final + int64(q.Running) }
	most := slices.SortedStableFunc(slices.Values(queues), func(a, b QueueStats) int { return cmp.Compare(filled(b), filled(a)) })[:n]
	slices.SortFunc(most, func(a, b QueueStats) int { return cmp.Compare(a.Name, b.Name) })
	return most
}
