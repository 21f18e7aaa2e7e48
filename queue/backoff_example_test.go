package queue_test

import (
	"fmt"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

func ExampleBackoff_Delay() {
	b := queue.Backoff{Base: time.Minute, Max: time.Hour, Factor: 2}
	for n := 1; n <= 8; n++ {
		fmt.Println(n, b.Delay(n))
	}
	// Output:
	// 1 1m0s
	// 2 2m0s
	// 3 4m0s
	// 4 8m0s
	// 5 16m0s
	// 6 32m0s
	// 7 1h0m0s
	// 8 1h0m0s
}
