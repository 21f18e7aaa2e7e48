package measure

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	last := -1
	for ns := uint64(0); ns < 1<<40; ns += 1 + ns/97 {
		b := bucketOf(ns)
		upper := uint64(upperOf(b))
		if b < last || upper < ns || bucketOf(upper) != b || float64(upper-ns) > float64(ns)/(1<<subBits) {
			t.Fatalf("%d ns: bucket %d after %d, up to %d", ns, b, last, upper)
		}
		last = b
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("the median of nothing is not 0")
	}
	for _, i := range rand.Perm(1000) {
		h.Record(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		want *= time.Millisecond
		if got := h.Quantile(q); got < want || float64(got-want) > float64(want)/(1<<subBits) {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.max != time.Second || h.Quantile(1) != time.Second {
		t.Errorf("max %v, quantile 1 %v", h.max, h.Quantile(1))
	}
}

func TestHistogramMergeAndJSON(t *testing.T) {
	var a, b, all Histogram
	for i := range 500 {
		d := time.Duration(i*i) * time.Microsecond
		all.Record(d)
		if i%3 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	data, err := json.Marshal(&b)
	if err != nil {
		t.Fatal(err)
	}
	var c Histogram
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	a.Merge(&c)
	if !reflect.DeepEqual(a, all) {
		t.Errorf("merged %+v, want %+v", a, all)
	}
}
