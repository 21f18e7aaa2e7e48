package queue

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A Filter selects messages for [Admin]. What is set must hold, all of it; what is
// zero says nothing.
type Filter struct {
	// All says that a Filter without anything else means every message. Actions
	// refuse an empty Filter without it, so that a field that was forgotten does
	// not bounce the whole spool. It adds nothing to a Filter that has others.
	All bool

	IDs []spool.ID // nil: any; empty but not nil: none

	Queue  string // the name, exactly
	Class  string // exactly
	Domain string // of one of the recipients, the whole of it, compared without case

	// Sender and Recipient are found anywhere in the address, without regard to
	// case; Recipient in one of them. The Sender "<>" is the null reverse-path.
	Sender, Recipient string

	MinAge      time.Duration // since the reception
	MinAttempts int           // failed attempts in its queue

	// States selects by state. nil: what the method says; [Admin.List] shows all.
	States []spool.State
}

// empty reports whether f selects everything without saying so.
func (f *Filter) empty() bool {
	return !f.All && f.IDs == nil && f.Queue == "" && f.Class == "" && f.Domain == "" && f.Sender == "" &&
		f.Recipient == "" && f.MinAge == 0 && f.MinAttempts == 0 && f.States == nil
}

// matches reports whether f selects e. IDs are not looked at: whoever calls has
// found e by them.
func (f *Filter) matches(e *spool.Entry, now time.Time) bool {
	switch {
	case e.Queue == Suspensions:
	case f.Queue != "" && e.Queue != f.Queue:
	case f.Class != "" && e.Class != f.Class:
	case f.States != nil && !slices.Contains(f.States, e.State):
	case e.Attempts < f.MinAttempts:
	case f.MinAge > 0 && now.Sub(e.Received) < f.MinAge:
	case f.Sender == "<>" && e.Envelope.Sender != "":
	case f.Sender != "" && f.Sender != "<>" && !containsFold(e.Envelope.Sender, f.Sender):
	default:
		return f.matchesRecipients(e.Envelope.Recipients)
	}
	return false
}

// matchesRecipients reports whether one recipient has the domain, and one the text.
func (f *Filter) matchesRecipients(rcpts []spool.Recipient) bool {
	inDomain := func(r spool.Recipient) bool { return domainOf(r.Address) == strings.ToLower(f.Domain) }
	contains := func(r spool.Recipient) bool { return containsFold(r.Address, f.Recipient) }
	return (f.Domain == "" || slices.ContainsFunc(rcpts, inDomain)) &&
		(f.Recipient == "" || slices.ContainsFunc(rcpts, contains))
}

func containsFold(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// sortedIDs returns IDs in their order and once each.
func sortedIDs(ids []spool.ID) []spool.ID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, compareIDs)
	return slices.Compact(ids)
}

func compareIDs(a, b spool.ID) int { return bytes.Compare(a[:], b[:]) }
