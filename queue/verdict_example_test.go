package queue_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
)

func ExampleReject() {
	errNoKey := errors.New("no key for example.com")

	err := queue.Reject(550, "5.7.20 cannot sign: %w", errNoKey)

	fmt.Println(err)
	fmt.Println(errors.Is(err, errNoKey))
	// Output:
	// 550 5.7.20 cannot sign: no key for example.com
	// true
}

func ExampleRetryAfter() {
	err := queue.RetryAfter(15*time.Minute, errors.New("greylisted"))
	fmt.Println(err)
	// Output: greylisted
}

func ExampleHold() {
	fmt.Println(queue.Hold("attachment waits for review"))
	// Output: hold: attachment waits for review
}

func ExampleDrop() {
	fmt.Println(queue.Drop("recipient unsubscribed"))
	// Output: drop: recipient unsubscribed
}

func ExampleSplit() {
	err := queue.Split([]error{
		nil,
		queue.Reject(550, "5.1.1 no such user"),
	})
	fmt.Println(err)
	// Output: split 2 ways, the worst: no such user
}

// A peer's 5xx is a verdict on the message only where the host says so, and
// never where the code speaks of the host.
func ExampleFromSMTP() {
	noUser := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	badPassword := &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "bad credentials"}

	for _, err := range []error{noUser, badPassword} {
		var rejected *queue.RejectError
		fmt.Println(errors.As(queue.FromSMTP(err), &rejected))
	}
	// Output:
	// true
	// false
}
