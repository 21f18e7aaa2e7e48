package queue_test

import (
	"encoding/json"
	"fmt"

	"github.com/deferredqueue/deferredqueue/queue"
)

func ExampleRecord_UnmarshalJSON() {
	const line = `{"type":"Bounce","recipient":"b@example.org","response":{"code":550,"content":"no such user"},"num_attempts":1}`

	var r queue.Record
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Type, r.Recipients, r.Response.Code, r.Response.Content)
	// Output: Bounce [b@example.org] 550 no such user
}
