package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A recordJSON is a Record in the shape of KumoMTA's log_record.
type recordJSON struct {
	Type                 RecordType          `json:"type"`
	ID                   string              `json:"id"`
	Sender               string              `json:"sender"`
	Recipient            recipientsJSON      `json:"recipient"`
	Queue                string              `json:"queue"`
	Site                 string              `json:"site"`
	Size                 int64               `json:"size"`
	Response             responseJSON        `json:"response"`
	PeerAddress          *peerJSON           `json:"peer_address"`
	Timestamp            int64               `json:"timestamp"`
	EventTime            string              `json:"event_time"`
	Created              int64               `json:"created"`
	CreatedTime          string              `json:"created_time"`
	NumAttempts          int                 `json:"num_attempts"`
	BounceClassification string              `json:"bounce_classification"`
	EgressPool           *string             `json:"egress_pool"`
	EgressSource         *string             `json:"egress_source"`
	Meta                 map[string]textJSON `json:"meta"`
	Headers              map[string]textJSON `json:"headers"`
	DeliveryProtocol     *string             `json:"delivery_protocol"`
	ReceptionProtocol    *string             `json:"reception_protocol"`
	NodeID               string              `json:"nodeid"`
	TLSCipher            *string             `json:"tls_cipher"`
	TLSProtocolVersion   *string             `json:"tls_protocol_version"`
	TLSPeerSubjectName   []string            `json:"tls_peer_subject_name"`
	SessionID            *string             `json:"session_id"`
}

type responseJSON struct {
	Code         int           `json:"code"`
	EnhancedCode *enhancedJSON `json:"enhanced_code"`
	Content      string        `json:"content"`
	Command      *string       `json:"command"`
}

type enhancedJSON struct {
	Class   int `json:"class"`
	Subject int `json:"subject"`
	Detail  int `json:"detail"`
}

type peerJSON struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
}

// MarshalJSON returns one line, without a newline in it, in the shape of
// KumoMTA's log_record: recipient is a string, or an array if there are
// several, or "" if there is none; timestamp and created are Unix seconds,
// event_time and created_time the same with fractions (RFC 3339, UTC); an
// empty string that KumoMTA calls optional is null.
//
// [Record.UnmarshalJSON] gives the record back as it was, with these
// exceptions: times lose their zone and monotonic clock, and years outside 0
// to 9999 are cut to these; bytes that are not UTF-8 become U+FFFD; slices and
// maps without elements become nil.
func (r Record) MarshalJSON() ([]byte, error) {
	j := recordJSON{
		Type:                 r.Type,
		Sender:               r.Sender,
		Recipient:            r.Recipients,
		Queue:                r.Queue,
		Site:                 r.Site,
		Size:                 r.Size,
		Response:             responseToJSON(r.Response),
		Timestamp:            inRange(r.Time).Unix(),
		EventTime:            inRange(r.Time).Format(time.RFC3339Nano),
		Created:              inRange(r.Created).Unix(),
		CreatedTime:          inRange(r.Created).Format(time.RFC3339Nano),
		NumAttempts:          r.Attempts,
		BounceClassification: "Uncategorized",
		Meta:                 textsToJSON(r.Meta),
		Headers:              textsToJSON(r.Headers),
		DeliveryProtocol:     optional(r.DeliveryProtocol),
		ReceptionProtocol:    optional(r.ReceptionProtocol),
		NodeID:               r.NodeID,
		TLSCipher:            optional(r.TLSCipher),
		TLSProtocolVersion:   optional(r.TLSProtocolVersion),
		SessionID:            optional(r.SessionID),
	}
	if !r.ID.IsZero() {
		j.ID = r.ID.String()
	}
	if r.PeerAddress != (Peer{}) {
		j.PeerAddress = (*peerJSON)(&r.PeerAddress)
	}
	if len(r.TLSPeerSubjectName) > 0 {
		j.TLSPeerSubjectName = r.TLSPeerSubjectName
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what [Record.MarshalJSON] wrote, and KumoMTA's own
// records: unknown fields are ignored, missing ones are zero, and metadata and
// headers that are not strings are kept as JSON text. A record without a type
// is an error. Nothing is allocated beyond what the input is long. On an error
// r is unchanged.
func (r *Record) UnmarshalJSON(data []byte) error {
	var j recordJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("queue: record is not a log_record: %w", err)
	}
	if j.Type == "" {
		return errors.New("queue: record has no type")
	}
	var id spool.ID
	if j.ID != "" {
		var err error
		if id, err = spool.ParseID(j.ID); err != nil {
			return fmt.Errorf("queue: record: %w", err)
		}
	}
	event, err := timeFromJSON(j.EventTime, j.Timestamp)
	if err != nil {
		return fmt.Errorf("queue: record: event_time: %w", err)
	}
	created, err := timeFromJSON(j.CreatedTime, j.Created)
	if err != nil {
		return fmt.Errorf("queue: record: created_time: %w", err)
	}
	*r = j.record(id, event, created)
	return nil
}

// record returns j as a Record.
func (j *recordJSON) record(id spool.ID, event, created time.Time) Record {
	r := Record{
		Type:               j.Type,
		ID:                 id,
		Sender:             j.Sender,
		Recipients:         j.Recipient,
		Queue:              j.Queue,
		Site:               j.Site,
		Size:               j.Size,
		Attempts:           j.NumAttempts,
		Time:               event,
		Created:            created,
		Response:           j.Response.response(),
		ReceptionProtocol:  stringOf(j.ReceptionProtocol),
		DeliveryProtocol:   stringOf(j.DeliveryProtocol),
		SessionID:          stringOf(j.SessionID),
		TLSCipher:          stringOf(j.TLSCipher),
		TLSProtocolVersion: stringOf(j.TLSProtocolVersion),
		NodeID:             j.NodeID,
		Meta:               textsFromJSON(j.Meta),
		Headers:            textsFromJSON(j.Headers),
	}
	if j.PeerAddress != nil {
		r.PeerAddress = Peer(*j.PeerAddress)
	}
	if len(j.TLSPeerSubjectName) > 0 {
		r.TLSPeerSubjectName = j.TLSPeerSubjectName
	}
	return r
}

func responseToJSON(r Response) responseJSON {
	j := responseJSON{Code: r.Code, Content: r.Content, Command: optional(r.Command)}
	if r.Enhanced != [3]int{} {
		j.EnhancedCode = &enhancedJSON{r.Enhanced[0], r.Enhanced[1], r.Enhanced[2]}
	}
	return j
}

func (j responseJSON) response() Response {
	r := Response{Code: j.Code, Content: j.Content, Command: stringOf(j.Command)}
	if e := j.EnhancedCode; e != nil {
		r.Enhanced = [3]int{e.Class, e.Subject, e.Detail}
	}
	return r
}

// inRange returns t in UTC, cut to what RFC 3339 can say.
func inRange(t time.Time) time.Time {
	t = t.UTC()
	switch {
	case t.Year() < 0:
		return time.Date(0, time.January, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, time.December, 31, 23, 59, 59, 999999999, time.UTC)
	}
	return t
}

// timeFromJSON reads the exact time, or the seconds where only they are given.
func timeFromJSON(exact string, seconds int64) (time.Time, error) {
	if exact == "" {
		return inRange(time.Unix(seconds, 0)), nil
	}
	t, err := time.Parse(time.RFC3339Nano, exact)
	return inRange(t), err
}

// optional returns nil for the empty string.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func stringOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// recipientsJSON is one string where there is one, and an array of several.
type recipientsJSON []string

func (l recipientsJSON) MarshalJSON() ([]byte, error) {
	switch {
	case len(l) == 0:
		return []byte(`""`), nil
	case len(l) == 1 && l[0] != "":
		return json.Marshal(l[0])
	}
	return json.Marshal([]string(l))
}

func (l *recipientsJSON) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*l = nil
		if one != "" {
			*l = recipientsJSON{one}
		}
		return nil
	}
	var several []string
	if err := json.Unmarshal(data, &several); err != nil {
		return fmt.Errorf("recipient: %w", err)
	}
	*l = nil
	if len(several) > 0 {
		*l = several
	}
	return nil
}

// textJSON is a string; any other value is taken as its JSON text.
type textJSON string

func (s *textJSON) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		text = string(data)
	}
	*s = textJSON(text)
	return nil
}

func textsToJSON(m map[string]string) map[string]textJSON {
	j := make(map[string]textJSON, len(m)) // KumoMTA has {}, not null
	for k, v := range m {
		j[k] = textJSON(v)
	}
	return j
}

func textsFromJSON(j map[string]textJSON) map[string]string {
	if len(j) == 0 {
		return nil
	}
	m := make(map[string]string, len(j))
	for k, v := range j {
		m[k] = string(v)
	}
	return m
}
