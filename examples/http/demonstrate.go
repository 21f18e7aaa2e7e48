package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// demonstrate sends a message twice, as a client does that got no answer.
func demonstrate(base string, out io.Writer, done <-chan struct{}, cancel func()) {
	defer cancel()
	key := "demo " + time.Now().String() // the same, both times
	for range 2 {
		req, err := http.NewRequest("POST", base+"/messages?from=app@example.org&to=ada@example.net", strings.NewReader("Subject: Hello\n\nHello.\n"))
		if err != nil {
			fmt.Fprintln(out, err)
			return
		}
		req.Header.Set("Authorization", "Bearer secret")
		req.Header.Set("Idempotency-Key", key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Fprintln(out, err)
			return
		}
		resp.Body.Close()
		fmt.Fprintln(out, "answer:", resp.Status)
	}
	timeout := time.After(30 * time.Second)
	for range 2 {
		select {
		case <-done:
		case <-timeout:
			fmt.Fprintln(out, "not all of it was dealt with in 30 s")
			return
		}
	}
}
