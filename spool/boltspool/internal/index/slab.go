package index

const perChunk = 1024

// A slab holds values by number. They never move, and the numbers of those that
// were freed are given again.
type slab[T any] struct {
	chunks []*[perChunk]T
	free   []uint32
	n      int
}

func (s *slab[T]) at(n uint32) *T { return &s.chunks[n/perChunk][n%perChunk] }

// alloc returns the number of a value that is zero.
func (s *slab[T]) alloc() uint32 {
	s.n++
	if k := len(s.free); k > 0 {
		n := s.free[k-1]
		s.free = s.free[:k-1]
		return n
	}
	first := uint32(len(s.chunks) * perChunk)
	s.chunks = append(s.chunks, new([perChunk]T))
	for n := first + perChunk - 1; n > first; n-- {
		s.free = append(s.free, n)
	}
	return first
}

func (s *slab[T]) release(n uint32) {
	var zero T
	*s.at(n) = zero
	s.free = append(s.free, n)
	s.n--
}

// size bounds the numbers that are in use.
func (s *slab[T]) size() uint32 { return uint32(len(s.chunks) * perChunk) }
