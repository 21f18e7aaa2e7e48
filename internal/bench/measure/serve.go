package measure

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A Reply is the line that answers a request.
type Reply struct {
	Error string          `json:",omitempty"`
	Value json.RawMessage `json:",omitempty"`
}

// Serve answers every line of JSON on in by a Reply on out with what handle
// returns, one after the other, until in ends.
func Serve(in io.Reader, out io.Writer, handle func(request json.RawMessage) (any, error)) error {
	dec, enc := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var request json.RawMessage
		if err := dec.Decode(&request); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("bench: reading a request: %w", err)
		}
		var r Reply
		value, err := handle(request)
		if err == nil {
			r.Value, err = json.Marshal(value)
		}
		if err != nil {
			r = Reply{Error: err.Error()}
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("bench: answering: %w", err)
		}
	}
}
