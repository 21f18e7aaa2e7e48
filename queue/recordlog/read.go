package recordlog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A Query selects records. The zero value, and a nil *Query, select all.
type Query struct {
	// After leaves out what was read before, see [Cursor].
	// Defaults to the beginning.
	After Cursor

	// From and To bound the time of what is reported: not before From, and before To.
	// Segments that end before From are not read.
	// Defaults to no bounds.
	From, To time.Time

	// Types are those wanted.
	// Defaults to all.
	Types []queue.RecordType

	// ID is that of a message. An ID has the time at which it was made, and without From
	// segments that end an hour before that are not read: set From for an ID of a host
	// whose clock was further ahead.
	// Defaults to all.
	ID spool.ID

	// Queue, Sender and Recipient are whole names and addresses, in whatever case.
	// Defaults to all.
	Queue, Sender, Recipient string

	// Filter has the last word. It must not retain anything of r.
	// Defaults to none.
	Filter func(r *queue.Record) bool
}

// An Item is one record that was read.
type Item struct {
	Record queue.Record
	JSON   []byte // the line, without its end
	Mark   Mark   // where it stands
}

// A Mark is the place of a record.
type Mark struct {
	Segment string `json:"segment"` // the name of the file
	Line    int64  `json:"line"`    // from 1 on
}

// A Cursor is how far a reader has come in the segments of each suffix. It can be kept
// as JSON.
type Cursor map[string]Mark

// Advance notes that a record was dealt with.
func (c Cursor) Advance(m Mark) {
	_, suffix, _ := parseName(m.Segment)
	c[suffix] = m
}

// past is how many lines of a segment were read before; done: all of it.
func (c Cursor) past(segment string) (lines int64, done bool) {
	_, suffix, _ := parseName(segment)
	m, ok := c[suffix]
	switch {
	case !ok || segment > m.Segment:
		return 0, false
	case segment < m.Segment:
		return 0, true
	}
	return m.Line, false
}

// A CorruptError says that a segment cannot be read further than some line. What
// comes before it is fine, and other segments are read. The end of a segment whose
// process or power went away is no damage, and not reported.
type CorruptError struct {
	Mark Mark // the first line that cannot be read
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("recordlog: %s is damaged at line %d: %v", e.Mark.Segment, e.Mark.Line, e.Err)
}

// Unwrap returns Err.
func (e *CorruptError) Unwrap() error { return e.Err }

// Read yields the records in a directory that match q: segment after segment, the
// oldest first, and in each in the order in which they were written; that of one message
// is the order of what happened to it, within the segments of one suffix. It yields
// what is there when it comes to a segment, and ends. After a *CorruptError it goes on
// with the next segment; every other error is the last thing that it yields.
func Read(dir string, q *Query) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		names, err := segments(dir)
		if err != nil {
			yield(nil, fmt.Errorf("recordlog: %w", err))
			return
		}
		for _, name := range q.matching(names) {
			if !readSegment(dir, name, q, yield) {
				return
			}
		}
	}
}

// clone returns a copy with a cursor of its own.
func (q *Query) clone() *Query {
	if q == nil {
		return nil
	}
	c := *q
	c.After = maps.Clone(q.After)
	return &c
}

// matching leaves out the segments that have nothing that q wants.
func (q *Query) matching(names []string) (some []string) {
	if q == nil {
		return names
	}
	from := q.from()
	next := map[string]time.Time{} // when the next segment of a suffix was begun
	for _, name := range slices.Backward(names) {
		begun, suffix, _ := parseName(name)
		_, done := q.After.past(name)
		after, ok := next[suffix]
		// Records are written after what they report.
		if !done && !(ok && after.Before(from)) {
			some = append(some, name)
		}
		next[suffix] = begun
	}
	slices.Reverse(some)
	return some
}

// clockSkew is how far the clocks of those who make IDs and records may be apart.
const clockSkew = time.Hour

// from is the time before which nothing can match.
func (q *Query) from() time.Time {
	if version := q.ID[6] >> 4; q.From.IsZero() && version == 7 { // others have no time
		return q.ID.Time().Add(-clockSkew)
	}
	return q.From
}

// matches reports whether q selects a record.
func (q *Query) matches(r *queue.Record) bool {
	return q == nil ||
		(q.From.IsZero() || !r.Time.Before(q.From)) && (q.To.IsZero() || r.Time.Before(q.To)) &&
			(q.Types == nil || slices.Contains(q.Types, r.Type)) &&
			(q.ID.IsZero() || r.ID == q.ID) &&
			(q.Queue == "" || strings.EqualFold(r.Queue, q.Queue)) &&
			(q.Sender == "" || strings.EqualFold(r.Sender, q.Sender)) &&
			(q.Recipient == "" || slices.ContainsFunc(r.Recipients, func(s string) bool { return strings.EqualFold(s, q.Recipient) })) &&
			(q.Filter == nil || q.Filter(r))
}

// after is the Cursor of q.
func (q *Query) after() Cursor {
	if q == nil {
		return nil
	}
	return q.After
}

// readSegment yields what matches in one segment, and reports whether to go on.
func readSegment(dir, name string, q *Query, yield func(*Item, error) bool) bool {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) { // archived meanwhile
		return true
	}
	if err != nil {
		yield(nil, fmt.Errorf("recordlog: %w", err))
		return false
	}
	defer f.Close()
	return decode(f, name, q, yield)
}

// maxLine bounds a line: an entry has less than that.
const maxLine = 64 << 20

// decode yields what matches in a segment that src has, up to its end, to where it
// was torn off, or to damage.
func decode(src io.Reader, name string, q *Query, yield func(*Item, error) bool) bool {
	zip, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return yield(nil, &CorruptError{Mark{name, 1}, err})
	}
	defer zip.Close()
	past, _ := q.after().past(name)
	lines := bufio.NewReaderSize(zip, 64<<10)
	for n := int64(1); ; n++ {
		text, err := readLine(lines)
		switch {
		case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
			return true
		case errors.Is(err, errStopped):
			return false
		case err != nil:
			return yield(nil, &CorruptError{Mark{name, n}, err})
		case n <= past:
			continue
		}
		it := &Item{JSON: text, Mark: Mark{name, n}}
		if err := json.Unmarshal(text, &it.Record); err != nil {
			if !yield(nil, &CorruptError{it.Mark, err}) {
				return false
			}
			continue
		}
		if q.matches(&it.Record) && !yield(it, nil) {
			return false
		}
	}
}

// readLine returns the next line without its end. One that does not end is none.
func readLine(r *bufio.Reader) (text []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil:
			return text[:len(text)-1], nil
		case errors.Is(err, bufio.ErrBufferFull) && len(text) <= maxLine:
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("a line has more than %d bytes", maxLine)
		}
		return nil, err
	}
}
