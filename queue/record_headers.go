package queue

import (
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
)

// recordHeaders returns the fields of a message that its records carry; nil if there
// are none, or if it cannot be read: a record is not held up by that.
func (s *Scheduler) recordHeaders(e *spool.Entry, open func() (spool.Body, error)) map[string]string {
	if len(s.opts.RecordHeaders) == 0 {
		return nil
	}
	body, err := open()
	if err != nil {
		return nil
	}
	defer body.Close()
	section, err := readSection(body, e.Skip)
	if err != nil {
		return nil
	}
	return parseHeader(e.Header, section).pick(s.opts.RecordHeaders)
}

// pick returns the first field of each name that a pattern selects.
func (h *Header) pick(patterns []string) (picked map[string]string) {
	for i := range h.items {
		f := &h.items[i]
		name := string(f.raw[:f.name])
		if name == "" || !selectsName(patterns, name) || hasField(picked, name) {
			continue
		}
		if picked == nil {
			picked = map[string]string{}
		}
		picked[name] = f.value()
	}
	return picked
}

// selectsName reports whether a name, or its beginning before *, is among patterns.
func selectsName(patterns []string, name string) bool {
	for _, p := range patterns {
		prefix, open := strings.CutSuffix(p, "*")
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) && (open || len(name) == len(prefix)) {
			return true
		}
	}
	return false
}

// hasField reports whether there is a field of that name, in whatever case.
func hasField(fields map[string]string, name string) bool {
	for have := range fields {
		if strings.EqualFold(have, name) {
			return true
		}
	}
	return false
}
