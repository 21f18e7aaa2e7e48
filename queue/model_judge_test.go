package queue

import (
	"maps"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// compare makes sure that the spool has what the model has seen it take.
func (m *model) compare() {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[spool.ID]bool{}
	for e, err := range m.procs[0].sp.Scan(m.t.Context(), spool.Query{}) {
		if err != nil {
			m.t.Fatal(err)
		}
		if e.Queue == Suspensions {
			m.t.Errorf("a suspension of %s is left", e.Meta["queue"])
			continue
		}
		found[e.ID] = true
		if want := m.live[e.ID]; want == nil || want.State != e.State || want.Queue != e.Queue || want.Attempts != e.Attempts {
			m.t.Errorf("the spool has %+v, want %+v", e, want)
		}
		if e.State != spool.Held {
			m.t.Errorf("%s is left %s in %s, due %v, at %v: %q", e.ID, e.State, e.Queue, e.Due, time.Now(), e.LastError)
		}
	}
	for id := range m.live {
		if !found[id] {
			m.t.Errorf("the spool has lost %s", id)
		}
	}
}

// nothingOwned makes sure that no process owns what it has done with.
func (m *model) nothingOwned() {
	m.mu.Lock()
	ids := m.ids()
	m.mu.Unlock()
	other := m.procs[0].sp.Attach()
	defer other.Close()
	entries, _, err := other.Claim(m.t.Context(), spool.ClaimRequest{IDs: append(ids, spool.ID{})})
	if err != nil || len(entries) != len(ids) {
		m.t.Errorf("%d of %d are not owned by anybody, %v", len(entries), len(ids), err)
	}
}

// judge makes sure that each recipient that was accepted has one outcome.
func (m *model) judge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	stored := map[string]bool{}
	for _, e := range m.live {
		for _, key := range keysOf(e) {
			stored[key] = true
		}
	}
	lost := map[spool.ID]*offer{}
	memory := map[string]*offer{}
	ids := map[string]spool.ID{}
	for id, o := range m.offers {
		for _, key := range keysOf(o.entry) {
			memory[key], ids[key] = o, id
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.fates)) {
		fate := m.fates[key]
		switch {
		case stored[key] != (fate == isStored):
			m.t.Errorf("%s is %s, and is in the spool: %v", key, fate, stored[key])
		case fate == isInMemory:
			lost[ids[key]] = memory[key]
		case fate == isDelivered && m.told[key] != 1 && !m.deaths && !m.faults:
			m.t.Errorf("%s was delivered, and that is recorded %d times", key, m.told[key])
		}
	}
	for id, o := range lost {
		switch a := m.attempts[id]; {
		case a != nil && a.light: // delivered
		case o.by.dead:
		case o.by.notSaved > 0:
			o.by.notSaved--
		default:
			m.t.Errorf("%s was accepted in memory and is lost", id)
		}
	}
	if len(m.actions) > 0 {
		m.t.Errorf("operators still act: %v", m.actions)
	}
}
