package queue_test

import (
	"fmt"

	"github.com/deferredqueue/deferredqueue/queue"
)

func ExampleParseRate() {
	r, err := queue.ParseRate("5,000/min,max_burst=20")
	fmt.Println(r.N, r.Per, r.Burst, err)
	fmt.Println(r)
	// Output:
	// 5000 1m0s 20 <nil>
	// 5000/m,max_burst=20
}
