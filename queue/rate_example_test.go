package queue_test

import (
	"encoding/json"
	"fmt"
	"time"

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

// A configuration may hold rates as text.
func ExampleRate_UnmarshalText() {
	var config map[string]queue.Rate
	err := json.Unmarshal([]byte(`{"example.com": "20/s", "example.net": "1,000/h"}`), &config)
	fmt.Println(config["example.com"], config["example.net"], err)

	err = json.Unmarshal([]byte(`{"example.com": "20 a second"}`), &config)
	fmt.Println(err != nil)
	// Output:
	// 20/s 1000/h <nil>
	// true
}

func ExampleRate_MarshalText() {
	r := queue.Rate{N: 20, Per: time.Second}
	text, err := json.Marshal(map[string]queue.Rate{"example.com": r})
	fmt.Println(string(text), err)
	// Output: {"example.com":"20/s"} <nil>
}
