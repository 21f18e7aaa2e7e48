package index

import "math"

// A table finds numbers by a hash of what they stand for, in 5 bytes a place.
// It is split, so that no single step of its growth takes long.
type table struct {
	hash   func(n uint32) uint64
	shards [shards]shard
}

const (
	shards  = 256
	present = 0x80 // in a tag; the rest of it are bits of the hash
)

// A shard is an open-addressing table with linear probing.
type shard struct {
	tags []uint8
	nums []uint32
	n    int
}

func (t *table) shard(h uint64) *shard { return &t.shards[h>>56] }

// place returns where the search for h begins.
func (s *shard) place(h uint64) int { return int(uint64(uint32(h)) * uint64(len(s.tags)) >> 32) }

func tag(h uint64) uint8 { return present | uint8(h>>48) }

// find returns the number with this hash that same accepts.
func (t *table) find(h uint64, same func(n uint32) bool) (n uint32, ok bool) {
	s := t.shard(h)
	if s.n == 0 {
		return 0, false
	}
	want := tag(h)
	for i := s.place(h); s.tags[i] != 0; i = s.next(i) {
		if s.tags[i] == want && same(s.nums[i]) {
			return s.nums[i], true
		}
	}
	return 0, false
}

func (s *shard) next(i int) int {
	if i++; i == len(s.tags) {
		return 0
	}
	return i
}

// add adds a number that is not in the table.
func (t *table) add(n uint32) {
	h := t.hash(n)
	s := t.shard(h)
	if 4*(s.n+1) > 3*len(s.tags) { // fuller, what is removed would have many behind it that may move up
		t.grow(s)
	}
	s.put(h, n)
}

func (s *shard) put(h uint64, n uint32) {
	i := s.place(h)
	for s.tags[i] != 0 {
		i = s.next(i)
	}
	s.tags[i], s.nums[i] = tag(h), n
	s.n++
}

func (t *table) grow(s *shard) { t.resize(s, max(8, len(s.tags)+len(s.tags)/2)) }

// expect makes room for n numbers and a quarter more: else the first ones that come
// after them would make all shards grow.
func (t *table) expect(n int) {
	each := 1.25 * float64(n) / shards
	size := int(4.0 / 3 * (each + 2*math.Sqrt(each)))
	for i := range t.shards {
		if s := &t.shards[i]; size > len(s.tags) {
			t.resize(s, size)
		}
	}
}

// resize makes a shard larger.
func (t *table) resize(s *shard, size int) {
	old := *s
	*s = shard{tags: make([]uint8, size), nums: make([]uint32, size)}
	for i, tag := range old.tags {
		if tag != 0 {
			s.put(t.hash(old.nums[i]), old.nums[i])
		}
	}
}

// remove removes a number that is in the table.
func (t *table) remove(n uint32) {
	h := t.hash(n)
	s := t.shard(h)
	i := s.place(h)
	for s.nums[i] != n || s.tags[i] == 0 {
		i = s.next(i)
	}
	// What stands behind moves up, unless its search would begin after the gap.
	for j := s.next(i); s.tags[j] != 0; j = s.next(j) {
		home := s.place(t.hash(s.nums[j]))
		if distance(home, j, len(s.tags)) >= distance(i, j, len(s.tags)) {
			s.tags[i], s.nums[i] = s.tags[j], s.nums[j]
			i = j
		}
	}
	s.tags[i] = 0
	if s.n--; s.n == 0 {
		*s = shard{}
	}
}

// distance is how many steps lead from one place to another.
func distance(from, to, size int) int {
	if to < from {
		return to - from + size
	}
	return to - from
}
