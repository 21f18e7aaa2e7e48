package index

// ordered is what a queue and a group have in common: a key by which their
// parent keeps them in a heap, and their place in it.
type ordered interface {
	key() int64 // when the first claimable entry below falls due
	place() *int32
}

// A heap keeps nodes with the earliest key first, and each node's place in it.
type heap[N ordered] []N

func (h heap[N]) less(i, j int) bool { return h[i].key() < h[j].key() }

func (h heap[N]) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].place(), *h[j].place() = int32(i), int32(j)
}

func (h *heap[N]) push(n N) {
	*n.place() = int32(len(*h))
	*h = append(*h, n)
	h.fix(n)
}

// fix restores the order after the key of n changed.
func (h heap[N]) fix(n N) {
	i := int(*n.place())
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		c := 2*i + 1
		if c+1 < len(h) && h.less(c+1, c) {
			c++
		}
		if c >= len(h) || !h.less(c, i) {
			return
		}
		h.swap(i, c)
		i = c
	}
}

func (h *heap[N]) remove(n N) {
	i, last := int(*n.place()), len(*h)-1
	h.swap(i, last)
	var none N
	(*h)[last] = none
	*h = (*h)[:last]
	if i < last {
		h.fix((*h)[i])
	}
}
