package main

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A view is an entry as JSON.
type view struct {
	ID          spool.ID        `json:"id"`
	Queue       string          `json:"queue"`
	Class       string          `json:"class"`
	State       string          `json:"state"`
	Due         moment          `json:"due"`
	Received    moment          `json:"received"`
	Expires     moment          `json:"expires,omitzero"`
	Attempts    int             `json:"attempts"`
	Interrupted int             `json:"interrupted"`
	LastError   text            `json:"last_error,omitempty"`
	Envelope    envelope        `json:"envelope"`
	Meta        map[string]text `json:"meta,omitempty"`
	Size        int64           `json:"size"`           // of the content
	Header      text            `json:"header"`         // with which the content begins
	Skip        int64           `json:"skip,omitempty"` // leading bytes of the body that are not part of it
	Body        spool.ID        `json:"body"`
	Outcome     any             `json:"outcome,omitempty"`
	Damage      string          `json:"damage,omitempty"` // of the body
}

type envelope struct {
	Sender     text        `json:"sender"`
	Recipients []recipient `json:"recipients"`
	SMTPUTF8   bool        `json:"smtputf8,omitempty"`
	RequireTLS bool        `json:"requiretls,omitempty"`
	Body       string      `json:"body,omitempty"`
	Ret        string      `json:"ret,omitempty"`
	EnvID      text        `json:"envid,omitempty"`
}

type recipient struct {
	Address text     `json:"address"`
	Notify  []string `json:"notify,omitempty"`
	ORcpt   text     `json:"orcpt,omitempty"`
}

// A text is a string that need not be UTF-8. If it is not, it becomes an object with
// the member "base64".
type text string

// MarshalJSON loses nothing.
func (t text) MarshalJSON() ([]byte, error) {
	var v any = string(t)
	if !utf8.ValidString(string(t)) {
		v = map[string][]byte{"base64": []byte(t)}
	}
	b, err := marshal(v)
	return b, err
}

// A moment is a time of any year.
type moment time.Time

// MarshalJSON writes it as time.Time does, which has an error for years of five digits.
func (m moment) MarshalJSON() ([]byte, error) {
	return time.Time(m).AppendFormat(nil, `"`+time.RFC3339Nano+`"`), nil
}

// IsZero reports whether there is none.
func (m moment) IsZero() bool { return time.Time(m).IsZero() }

func (a *app) view(e *spool.Entry) *view {
	v := &view{
		ID: e.ID, Queue: e.Queue, Class: e.Class, State: e.State.String(),
		Due: moment(e.Due.In(a.zone)), Received: moment(e.Received.In(a.zone)), Attempts: e.Attempts, Interrupted: e.Interrupted,
		LastError: text(e.LastError), Size: e.Size, Header: text(e.Header), Skip: e.Skip, Body: e.Body,
	}
	if !e.Expires.IsZero() {
		v.Expires = moment(e.Expires.In(a.zone))
	}
	env := &e.Envelope
	v.Envelope = envelope{text(env.Sender), []recipient{}, env.SMTPUTF8, env.RequireTLS, env.Body, env.Ret, text(env.EnvID)}
	for _, r := range env.Recipients {
		v.Envelope.Recipients = append(v.Envelope.Recipients, recipient{text(r.Address), r.Notify, text(r.ORcpt)})
	}
	if e.Meta != nil {
		v.Meta = make(map[string]text, len(e.Meta))
		for k, m := range e.Meta {
			v.Meta[k] = text(m)
		}
	}
	if json.Valid(e.Outcome) && utf8.Valid(e.Outcome) {
		v.Outcome = json.RawMessage(e.Outcome)
	} else if e.Outcome != nil {
		v.Outcome = text(e.Outcome)
	}
	return v
}
