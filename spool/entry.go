package spool

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// A Recipient is one RCPT TO of a message.
type Recipient struct {
	Address string   // without angle brackets
	Notify  []string // NOTIFY, RFC 3461, section 4.1: upper case; nil if not given
	ORcpt   string   // ORCPT, RFC 3461, section 4.2: "type;address", decoded; empty if not given
}

// An Envelope is what MAIL FROM and RCPT TO said (RFC 5321, section 3.3).
type Envelope struct {
	Sender     string // without angle brackets; empty for the null reverse-path
	Recipients []Recipient
	SMTPUTF8   bool   // RFC 6531
	RequireTLS bool   // RFC 8689
	Body       string // BODY, RFC 6152 and RFC 3030: "7BIT", "8BITMIME", "BINARYMIME", or empty
	Ret        string // RET, RFC 3461, section 4.3: "FULL", "HDRS", or empty
	EnvID      string // ENVID, RFC 3461, section 4.4, decoded
}

// Clone returns a copy that shares nothing with env.
func (env Envelope) Clone() Envelope {
	env.Recipients = slices.Clone(env.Recipients)
	for i := range env.Recipients {
		env.Recipients[i].Notify = slices.Clone(env.Recipients[i].Notify)
	}
	return env
}

// A State says who may touch an entry.
type State uint8

// The states of an entry.
const (
	Queued State = iota // claimed when it is due
	Held                // never claimed by its due time; an operator releases it
	Final               // its outcome is decided and stored, the record of it not yet taken
)

// String returns "queued", "held" or "final".
func (s State) String() string {
	switch s {
	case Queued:
		return "queued"
	case Held:
		return "held"
	case Final:
		return "final"
	}
	return "unknown"
}

// An Entry is one unit of work: an envelope, what is known of its history, and
// a reference to a body. The entries of one transaction share one body. The
// content of an entry is Header, followed by the body from offset Skip on.
//
// An Entry is immutable once it was committed or returned by a spool, except
// for Rev and Size, which a successful change sets: change a [Entry.Clone].
type Entry struct {
	ID    ID
	Body  ID     // the body it refers to; a spool must know it, or a [Change.Stage] must bring it
	Queue string // never empty
	Class string // the key of fairness inside the queue; never empty
	State State

	Due      time.Time // not claimed before
	Received time.Time // when the message was accepted; unchanged for life
	Expires  time.Time // zero: the queue's maximum age decides alone; else the earlier of both

	Attempts    int // failed attempts in this queue
	Interrupted int // processes that died while its handler may have run; see [Starter]

	Envelope Envelope
	Meta     map[string]string
	Header   []byte // stands in front of the body, and for its first Skip bytes
	Skip     int64  // leading bytes of the body that are not part of the content
	Size     int64  // of the content: len(Header) + size of the body - Skip; set by the spool

	LastError string
	Outcome   []byte // with Final: the record to be written
	Rev       uint64 // set by the spool; grows with every durable change and, in a shared spool, with ownership
}

// Clone returns a copy that shares nothing with e.
func (e *Entry) Clone() *Entry {
	c := *e
	c.Envelope = e.Envelope.Clone()
	c.Meta = maps.Clone(e.Meta)
	c.Header = bytes.Clone(e.Header)
	c.Outcome = bytes.Clone(e.Outcome)
	return &c
}
