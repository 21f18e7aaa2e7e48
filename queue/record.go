package queue

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A RecordType is the kind of event that a [Record] reports.
type RecordType string

// The types of records.
const (
	Reception        RecordType = "Reception"        // accepted and durable
	Delivery         RecordType = "Delivery"         // a handler succeeded; final but for the deferred queue
	Bounce           RecordType = "Bounce"           // rejected; final
	TransientFailure RecordType = "TransientFailure" // an attempt failed, or the message is held
	Expiration       RecordType = "Expiration"       // the last attempt failed; final
	AdminBounce      RecordType = "AdminBounce"      // dropped by policy or by an operator; final
	AdminRebind      RecordType = "AdminRebind"      // moved by an operator
	Rejection        RecordType = "Rejection"        // refused at reception, nothing was accepted
	Delayed          RecordType = "Delayed"          // the sender was told that the message waits
)

// A Record is one event in a message's life. Its JSON is one line in the shape
// of KumoMTA's log_record, see [Record.MarshalJSON].
//
// A Record is a plain value; its maps and slices are the receiver's to read,
// and to keep only where the receiver's contract says so.
type Record struct {
	Type       RecordType
	ID         spool.ID // of the message; zero for a Rejection
	Sender     string   // without angle brackets; empty for the null reverse-path
	Recipients []string // without angle brackets
	Queue      string   // that the message was in
	Site       string   // where it was delivered to; empty where a queue has no sites
	Size       int64    // of the content, in bytes
	Attempts   int      // failed attempts in this queue, this one included
	Time       time.Time
	Created    time.Time // when the message was accepted
	Response   Response

	PeerAddress        Peer   // who handed the message in
	ReceptionProtocol  string // "ESMTP", "LMTP"; empty: not by SMTP
	DeliveryProtocol   string // "DeferredSmtpInjection" of the deferred queue; empty of others: only their handlers know
	SessionID          string // of the SMTP session that brought the message
	TLSCipher          string // of that session, as the following two; empty: no TLS
	TLSProtocolVersion string
	TLSPeerSubjectName []string

	NodeID  string // the host that wrote the record
	Meta    map[string]string
	Headers map[string]string // header fields that the host wants in its records; a last record of more than 1 MiB has neither these nor Meta
}

// A Response is an SMTP reply (RFC 5321, section 4.2), the peer's or our own.
type Response struct {
	Code     int
	Enhanced [3]int // RFC 3463; zero: there is none
	Content  string // the text behind the codes, one line
	Command  string // what it replied to, such as "MAIL FROM"; empty: not known
}

// A Peer is the other end of a session.
type Peer struct {
	Name string // what it said in EHLO
	Addr string // IP address without port; for a Unix socket its path
}

// newRecord returns a record with all that e knows. It shares nothing with e.
func newRecord(t RecordType, e *spool.Entry, now time.Time, resp Response, nodeID string) Record {
	meta := e.Meta
	r := Record{
		Type:               t,
		ID:                 e.ID,
		Sender:             e.Envelope.Sender,
		Queue:              e.Queue,
		Size:               e.Size,
		Attempts:           e.Attempts,
		Time:               now.Round(0).UTC(), // as it comes back from JSON
		Created:            e.Received.Round(0).UTC(),
		Response:           resp,
		PeerAddress:        Peer{Name: meta["ehlo_domain"], Addr: hostOf(meta["received_from"])},
		ReceptionProtocol:  meta["reception_protocol"],
		SessionID:          meta["session_id"],
		TLSCipher:          meta["tls_cipher"],
		TLSProtocolVersion: meta["tls_protocol_version"],
		TLSPeerSubjectName: subjectNames(meta["tls_peer_subject_name"]),
		NodeID:             nodeID,
	}
	r.Recipients = slices.Grow(r.Recipients, len(e.Envelope.Recipients)) // nil for none
	for _, rcpt := range e.Envelope.Recipients {
		r.Recipients = append(r.Recipients, rcpt.Address)
	}
	if len(meta) > 0 {
		r.Meta = maps.Clone(meta)
	}
	return r
}

// hostOf returns addr without its port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// subjectNames reads the metadata tls_peer_subject_name: a JSON array of
// strings, or one name.
func subjectNames(s string) []string {
	if s == "" {
		return nil
	}
	var names []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &names) == nil {
		return names
	}
	return []string{s}
}

// LogValue returns the record as a group without its metadata and headers.
func (r Record) LogValue() slog.Value { return slog.GroupValue(r.attrs()...) }

// attrs returns what a line of log says of r.
func (r Record) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("type", string(r.Type)),
		slog.String("id", r.ID.String()),
		slog.String("queue", r.Queue),
		slog.String("sender", r.Sender),
		slog.String("recipients", strings.Join(r.Recipients, ",")),
		slog.Int64("size", r.Size),
		slog.Int("attempts", r.Attempts),
		slog.Int("code", r.Response.Code),
		slog.String("content", r.Response.Content),
	}
	if r.SessionID != "" {
		attrs = append(attrs, slog.String("session_id", r.SessionID))
	}
	return attrs
}

// logRecord writes r as one line: at level Info what went well, at Warn what
// did not.
func logRecord(ctx context.Context, l *slog.Logger, r Record) {
	level := slog.LevelWarn
	switch r.Type {
	case Reception, Delivery, AdminRebind:
		level = slog.LevelInfo
	}
	if !l.Enabled(ctx, level) {
		return
	}
	l.LogAttrs(ctx, level, "mail record", r.attrs()...)
}
