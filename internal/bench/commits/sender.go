package commits

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Queue is the queue of all entries, the one in which package queue has what
// was not injected yet.
const Queue = "deferred_smtp_inject.kumomta.internal"

// A Sender makes the entries of one session, as package smtpserver does for a
// client with TLS and AUTH whose host puts two metadata into the supplemental
// field. The record of such an entry has about 900 bytes. A Sender is for one
// goroutine.
type Sender struct {
	class  string
	env    spool.Envelope
	meta   map[string]string
	header []byte
	record []byte
}

// NewSender returns the number-th sender; they differ in all that sessions
// differ in.
func NewSender(number int) *Sender {
	tenant := fmt.Sprintf("tenant-%03d", number%1000)
	rcpt := fmt.Sprintf("recipient.%05d@customer.example.org", number)
	id := spool.NewID()
	s := &Sender{
		class: tenant,
		env: spool.Envelope{
			Sender:     fmt.Sprintf("bounces+%05d@news.example.com", number),
			Recipients: []spool.Recipient{{Address: rcpt}},
			Body:       "8BITMIME",
		},
		meta: map[string]string{
			"reception_protocol": "ESMTP", "received_via": "192.0.2.25:2525", "received_from": fmt.Sprintf("198.51.100.%d:%d", number%250, 30000+number),
			"hostname": "mx1.library.example", "ehlo_domain": "injector.example.com", "session_id": hex.EncodeToString(id[:]),
			"authn_id": tenant, "tls_cipher": "TLS_AES_128_GCM_SHA256", "tls_protocol_version": "TLS 1.3",
			"tenant": tenant, "campaign": "spring",
		},
	}
	s.header = s.trace(id, rcpt)
	s.record = record(s.Entry(id))
	return s
}

// trace returns the supplemental field and the Received field.
func (s *Sender) trace(id spool.ID, rcpt string) []byte {
	reference := fmt.Sprintf(`{"_@_":"\\_/","recipient":%q,"tenant":%q,"campaign":%q}`, rcpt, s.meta["tenant"], s.meta["campaign"])
	var b strings.Builder
	b.WriteString("X-KumoRef:")
	sep := " "
	for part := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(reference))), 64) {
		b.WriteString(sep + string(part))
		sep = "\r\n\t"
	}
	fmt.Fprintf(&b, "\r\nReceived: from %s ([198.51.100.7])\r\n\tby %s with ESMTPSA id %x\r\n\tfor <%s>;\r\n\t%s\r\n",
		s.meta["ehlo_domain"], s.meta["hostname"], id[:], rcpt, time.Now().Format(time.RFC1123Z))
	return []byte(b.String())
}

// Entry returns a new entry, due now, that refers to body.
func (s *Sender) Entry(body spool.ID) *spool.Entry {
	now := time.Now().Truncate(time.Millisecond)
	return &spool.Entry{
		ID: spool.NewID(), Body: body, Queue: Queue, Class: s.class, Due: now, Received: now,
		Envelope: s.env, Meta: s.meta, Header: s.header,
	}
}

// Record returns bytes like those that a store would keep of an Entry, with an
// ID of its own in front. They are valid until the next call.
func (s *Sender) Record() (id spool.ID, b []byte) {
	id = spool.NewID()
	copy(s.record, id[:])
	return id, s.record
}

// record puts everything in e behind each other: strings with their lengths,
// numbers as they are.
func record(e *spool.Entry) []byte {
	b := slices.Concat(e.ID[:], e.Body[:])
	for _, n := range []int64{int64(e.State), int64(e.Rev), int64(e.Attempts), int64(e.Interrupted), e.Size, e.Skip, e.Due.UnixMilli(), e.Received.UnixMilli()} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, s := range []string{e.Queue, e.Class, e.Envelope.Sender, e.Envelope.Body, string(e.Header)} {
		text(s)
	}
	for _, r := range e.Envelope.Recipients {
		text(r.Address)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Meta)) {
		text(name)
		text(e.Meta[name])
	}
	return b
}
