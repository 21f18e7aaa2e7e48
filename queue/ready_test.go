package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func classJob(class string) *job {
	return &job{entry: &spool.Entry{ID: spool.NewID(), Class: class}, index: -1}
}

// fill pushes jobs: one per letter, of the class of that name.
func (l *readyList) fill(classes string) {
	for _, c := range classes {
		l.push(classJob(string(c)))
	}
}

// drain pops n jobs and names their classes.
func (l *readyList) drain(n int) string {
	var b strings.Builder
	for range n {
		if j := l.pop(); j != nil {
			b.WriteString(j.entry.Class)
		}
	}
	return b.String()
}

func TestReadyTurns(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights map[string]int
		in      string
		want    string
	}{
		{"one class", nil, "aaaa", "aaaa"},
		{"by turns", nil, "aaaabbcc", "abcabcaa"},
		{"in the order of arrival", nil, "cab", "cab"},
		{"weights", map[string]int{"b": 2}, "aaaabbbb", "babbabaa"},
		{"three to one", map[string]int{"b": 3, "x": 9}, "aabbbbbb", "bbbabbba"},
		{"less than one is one", map[string]int{"a": 0, "b": -5}, "aabb", "abab"},
	} {
		var l readyList
		l.setWeights(tt.weights)
		l.fill(tt.in)
		if got := l.drain(len(tt.in) + 1); got != tt.want || l.len() != 0 || len(l.classes) != 0 || l.weight != 0 || l.now != 0 {
			t.Errorf("%s: %s becomes %s, want %s; left %+v", tt.name, tt.in, got, tt.want, l)
		}
	}
}

// A class that was away has saved up nothing, and one that comes often with one
// message has no more turns than others.
func TestReadyNoCredit(t *testing.T) {
	var l readyList
	l.fill(strings.Repeat("a", 100))
	l.drain(50)
	l.fill(strings.Repeat("b", 100))
	if got := l.drain(8); got != "abababab" && got != "babababa" {
		t.Errorf("b, which was away, and a have their turns like %s", got)
	}
	l = readyList{}
	l.fill(strings.Repeat("a", 100))
	var got strings.Builder
	for range 10 {
		l.fill("b")
		got.WriteString(l.drain(2))
	}
	if strings.Count(got.String(), "a") != 10 {
		t.Errorf("a and single messages of b have their turns like %s", &got)
	}
	// Classes without number do not hold up one that is there.
	got.Reset()
	for i := range 10 {
		for k := range 3 {
			l.push(classJob(fmt.Sprint(i, k)))
		}
		l.drain(3)
	}
	if n := 90 - l.count("a"); n < 2 {
		t.Errorf("%d turns of a among 30 of classes that come once", n)
	}
}

func TestReadyWeightsChange(t *testing.T) {
	var l readyList
	l.fill(strings.Repeat("a", 50) + strings.Repeat("b", 50))
	l.drain(10)
	l.setWeights(map[string]int{"b": 4})
	if got := l.drain(20); strings.Count(got, "b") < 15 {
		t.Errorf("with four times the weight b has its turns like %s", got)
	}
	if l.share("b", 100) != 80 || l.share("a", 100) != 20 || l.share("c", 60) != 10 {
		t.Errorf("shares %d, %d, %d; want 80, 20, 10", l.share("b", 100), l.share("a", 100), l.share("c", 60))
	}
}

func TestReadyCut(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights map[string]int
		in      string
		keep    int
		want    string // classes and how many of each are left
	}{
		{"nothing to do", nil, "aab", 3, "a2 b1"},
		{"the fat one pays", nil, "aaaaaaaab", 4, "a3 b1"},
		{"down to the same level", nil, "aaaaabbbbbcc", 6, "a2 b2 c2"},
		{"the last to come pays first", nil, "abc", 2, "a1 b1"},
		{"by weight", map[string]int{"a": 3}, "aaaaaabbbbbb", 8, "a6 b2"},
		{"all", nil, "aabbc", 0, ""},
	} {
		var l readyList
		l.setWeights(tt.weights)
		l.fill(tt.in)
		out := l.cut(tt.keep)
		var left []string
		for name, c := range l.classes {
			left = append(left, fmt.Sprint(name, c.total()))
		}
		slices.Sort(left)
		if got := strings.Join(left, " "); got != tt.want || len(out)+l.total() != len(tt.in) {
			t.Errorf("%s: left %s, want %s; %d were taken out", tt.name, got, tt.want, len(out))
		}
	}
}

// modelList is what a readyList is to be, without any structure.
type modelList struct {
	jobs    []*job // in the order in which they came
	later   []*job
	weights map[string]int
	done    map[string]float64 // when the next one of a class is done
	turn    map[string]int
	now     float64
	turns   int
}

func (m *modelList) first(class string) int {
	return slices.IndexFunc(m.jobs, func(j *job) bool { return j.entry.Class == class })
}

func (m *modelList) start(class string, at float64) {
	m.turns++
	m.done[class], m.turn[class] = at+1/float64(max(m.weights[class], 1)), m.turns
}

func (m *modelList) push(j *job) {
	if m.first(j.entry.Class) < 0 {
		m.start(j.entry.Class, m.now)
	}
	m.jobs = append(m.jobs, j)
}

func (m *modelList) pop() *job {
	best := ""
	for _, j := range m.jobs {
		c := j.entry.Class
		if best == "" || m.done[c] < m.done[best] || m.done[c] == m.done[best] && m.turn[c] < m.turn[best] {
			best = c
		}
	}
	if best == "" {
		return nil
	}
	i := m.first(best)
	j := m.jobs[i]
	m.jobs = slices.Delete(m.jobs, i, i+1)
	m.now = m.done[best]
	m.settle()
	if m.first(best) >= 0 {
		m.start(best, m.now)
	}
	return j
}

func (m *modelList) settle() {
	if len(m.jobs) == 0 {
		m.now = 0
	}
}

func (m *modelList) remove(out []*job) {
	gone := func(j *job) bool { return slices.Contains(out, j) }
	m.jobs, m.later = slices.DeleteFunc(m.jobs, gone), slices.DeleteFunc(m.later, gone)
	m.settle()
}

// TestReadyModel does the same with a readyList and with the model. Weights are
// powers of two, so that both reckon without rounding.
func TestReadyModel(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		weights := map[string]int{"a": 1, "b": 2, "c": 8, "d": 1}
		m := &modelList{weights: weights, done: map[string]float64{}, turn: map[string]int{}}
		var l readyList
		l.setWeights(weights)
		for range 300 {
			class := string(rune('a' + random.IntN(6)))
			switch random.IntN(8) {
			case 0, 1, 2:
				j := classJob(class)
				l.push(j)
				m.push(j)
			case 3:
				j := classJob(class)
				l.putOff(j)
				m.later = append(m.later, j)
			case 4:
				if n := len(m.later); n > 0 {
					i := random.IntN(n)
					j := m.later[i]
					m.later = slices.Delete(m.later, i, i+1)
					l.mature(j)
					m.push(j)
				}
			case 5:
				switch random.IntN(20) {
				case 0, 1:
					checkCut(t, &l, m, l.total()*3/4)
				case 2:
					checkRemove(t, &l, m, random.IntN(3))
				}
			default:
				if got, want := l.pop(), m.pop(); got != want {
					t.Fatalf("seed %d: the turn of %v, want %v", seed, got, want)
				}
			}
			if l.ready != len(m.jobs) || l.later != len(m.later) || l.total() != len(m.jobs)+len(m.later) {
				t.Fatalf("seed %d: %d ready and %d later, want %d and %d", seed, l.ready, l.later, len(m.jobs), len(m.later))
			}
		}
		for want := m.pop(); want != nil; want = m.pop() {
			if got := l.pop(); got != want {
				t.Fatalf("seed %d: at the end the turn of %v, want %v", seed, got, want)
			}
		}
	}
}

// checkCut cuts and checks that nobody has paid for one who has more for its
// weight, and that the others of each class have kept their order.
func checkCut(t *testing.T, l *readyList, m *modelList, keep int) {
	t.Helper()
	out := l.cut(keep)
	if l.total() > keep {
		t.Fatalf("%d are left of a cut to %d", l.total(), keep)
	}
	for _, j := range out {
		paid := float64(l.count(j.entry.Class)+1) / float64(l.weightOf(j.entry.Class))
		for name, c := range l.classes {
			if rest := float64(c.total()) / float64(c.weight); rest > paid {
				t.Fatalf("%s, with %.2f for its weight, paid for %s, which has %.2f left", j.entry.Class, paid, name, rest)
			}
		}
	}
	// What is cut of those that may run is what would run last.
	for _, c := range l.classes {
		was := slices.DeleteFunc(slices.Clone(m.jobs), func(j *job) bool { return j.entry.Class != c.name })
		if kept := c.jobs.items[c.jobs.head:]; !slices.Equal(kept, was[:len(kept)]) {
			t.Fatalf("of %s something else than the last jobs was cut", c.name)
		}
	}
	m.remove(out)
}

// checkRemove takes out some and checks that it is these.
func checkRemove(t *testing.T, l *readyList, m *modelList, n int) {
	t.Helper()
	match := func(j *job) bool { return int(j.entry.ID[15])%3 == n }
	out := l.take(match)
	want := 0
	for _, j := range append(slices.Clone(m.jobs), m.later...) {
		if match(j) {
			want++
		}
	}
	if len(out) != want || slices.ContainsFunc(out, func(j *job) bool { return !match(j) }) {
		t.Fatalf("%d were taken out, want %d that match", len(out), want)
	}
	m.remove(out)
}

// TestReadyShares checks the promise: of two classes that both have something all
// the time, none is ahead of the other by more than a turn of each.
func TestReadyShares(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 2))
		weights := map[string]int{}
		var l readyList
		for i := range 2 + random.IntN(6) {
			weights[fmt.Sprint(i)] = 1 + random.IntN(20)
		}
		l.setWeights(weights)
		for class := range weights {
			for range 2000 {
				l.push(classJob(class))
			}
		}
		served := map[string]float64{}
		for range 1500 {
			class := l.pop().entry.Class
			served[class] += 1 / float64(weights[class])
			for a := range weights {
				for b := range weights {
					if bound := 1/float64(weights[a]) + 1/float64(weights[b]); served[a]-served[b] > bound+1e-3 {
						t.Fatalf("seed %d: class %s is %.3f turns ahead of %s, more than %.3f", seed, a, served[a]-served[b], b, bound)
					}
				}
			}
		}
	}
}

func TestFifo(t *testing.T) {
	var f fifo
	random := rand.New(rand.NewPCG(1, 3))
	var want []*job
	most := 0
	for range 20000 {
		switch random.IntN(5) {
		case 0, 1:
			j := classJob("")
			f.push(j)
			want = append(want, j)
		case 2, 3:
			var first *job
			if len(want) > 0 {
				first, want = want[0], want[1:]
			}
			if got := f.pop(); got != first {
				t.Fatal("pop did not take out the first one")
			}
		default:
			if n := len(want); n > 0 && random.IntN(8) == 0 {
				if f.popLast() != want[n-1] {
					t.Fatal("popLast did not take out the last one")
				}
				want = want[:n-1]
			}
		}
		if f.len() != len(want) {
			t.Fatalf("%d, want %d", f.len(), len(want))
		}
		most = max(most, len(want))
	}
	if cap(f.items) > 8*most+64 {
		t.Errorf("room for %d after no more than %d at once", cap(f.items), most)
	}
}

func BenchmarkReady(b *testing.B) {
	for _, classes := range []int{1, 1000} {
		b.Run(fmt.Sprint(classes), func(b *testing.B) {
			var l readyList
			jobs := make([]*job, 10_000)
			for i := range jobs {
				jobs[i] = classJob(fmt.Sprint(i % classes))
				l.push(jobs[i])
			}
			for b.Loop() {
				l.push(l.pop())
			}
		})
	}
}
