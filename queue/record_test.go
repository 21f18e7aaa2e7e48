package queue

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/deferredqueue/deferredqueue/spool"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenTime has a fraction and a zone, neither of which may get lost or in the way.
var goldenTime = time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.FixedZone("", 3600))

func goldenEntry(t testing.TB) *spool.Entry {
	t.Helper()
	id, err := spool.ParseID("0195a1b2c3d47e5f8a9b0c1d2e3f4a5b")
	if err != nil {
		t.Fatal(err)
	}
	return &spool.Entry{
		ID:       id,
		Queue:    "deferred_smtp_inject.kumomta.internal",
		Received: goldenTime.Add(-90 * time.Second),
		Attempts: 3,
		Size:     1047,
		Envelope: spool.Envelope{
			Sender:     "user@sender.example.com",
			Recipients: []spool.Recipient{{Address: "user@recipient.example.com"}},
		},
		Meta: map[string]string{
			"reception_protocol":    "ESMTP",
			"received_from":         "[2001:db8::1]:4711",
			"ehlo_domain":           "client.example.com",
			"session_id":            "0195a1b2-0000-7000-8000-000000000001",
			"tls_cipher":            "TLS_AES_128_GCM_SHA256",
			"tls_protocol_version":  "TLSv1.3",
			"tls_peer_subject_name": "CN=client.example.com",
			"tenant":                "a<b>&\"c\"",
		},
	}
}

// goldenRecords is one record of each type, and between them every shape of
// every field.
func goldenRecords(t testing.TB) []Record {
	e := goldenEntry(t)
	several := e.Clone()
	several.Envelope.Recipients = append(several.Envelope.Recipients, spool.Recipient{Address: "second@recipient.example.com"})
	several.Meta["tls_peer_subject_name"] = `["C=US","CN=client.example.com"]`
	local := e.Clone()
	local.Meta = nil
	local.Envelope.Sender = ""
	record := func(t RecordType, e *spool.Entry, code int, enhanced [3]int, content string) Record {
		return newRecord(t, e, goldenTime, Response{Code: code, Enhanced: enhanced, Content: content}, "mx1")
	}
	all := []Record{
		record(Reception, e, 250, [3]int{2, 0, 0}, "OK ids="+e.ID.String()),
		record(Delivery, e, 250, [3]int{2, 0, 0}, "OK"),
		record(Bounce, several, 550, [3]int{5, 7, 1}, "no key"),
		record(TransientFailure, e, 450, [3]int{4, 0, 0}, "look-up timed out"),
		record(Expiration, local, 551, [3]int{5, 4, 7}, "too old"),
		record(AdminBounce, e, 551, [3]int{5, 7, 1}, "drop: unsubscribed"),
		record(AdminRebind, e, 250, [3]int{}, "moved"),
		{Type: Rejection, Time: goldenTime, Response: Response{Code: 550, Enhanced: [3]int{5, 7, 1}, Content: "relaying denied", Command: "RCPT TO"}},
		record(Delayed, local, 250, [3]int{2, 0, 0}, "sender told"),
	}
	all[1].DeliveryProtocol = "DeferredSmtpInjection"
	all[1].Headers = map[string]string{"Subject": "two\r\nlines", "X-Empty": ""}
	all[4].Site = "mx.recipient.example.com"
	return all
}

func TestRecordGolden(t *testing.T) {
	var got bytes.Buffer
	for _, r := range goldenRecords(t) {
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(line)
		got.WriteByte('\n')
	}
	file := filepath.Join("testdata", "records.jsonl")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	if len(gotLines) != len(wantLines) {
		t.Fatalf("%d lines, want %d", len(gotLines), len(wantLines))
	}
	for i := range gotLines {
		if gotLines[i] != wantLines[i] {
			t.Errorf("line %d\n got %s\nwant %s", i+1, gotLines[i], wantLines[i])
		}
	}
}

// roundTrip returns r as it comes back from JSON.
func roundTrip(t testing.TB, r Record) Record {
	t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(line, "\r\n") {
		t.Fatalf("not one line: %q", line)
	}
	var back Record
	if err := json.Unmarshal(line, &back); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return back
}

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range goldenRecords(t) {
		want := r
		want.Time, want.Created = r.Time.UTC(), r.Created.UTC()
		if got := roundTrip(t, r); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", r.Type, got, want)
		}
	}
}

func TestRecordRoundTripEdges(t *testing.T) {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	first, last := year(0), year(10000).Add(-1)
	tests := []struct {
		name     string
		in, want Record
	}{
		{"zero but its type", Record{}, Record{}},
		{"one empty recipient", Record{Recipients: []string{""}}, Record{Recipients: []string{""}}},
		{"empty among several", Record{Recipients: []string{"", "a@b"}}, Record{Recipients: []string{"", "a@b"}}},
		{"no recipients", Record{Recipients: []string{}}, Record{}},
		{"empty maps", Record{Meta: map[string]string{}, Headers: map[string]string{}}, Record{}},
		{"half a peer", Record{PeerAddress: Peer{Name: "n"}}, Record{PeerAddress: Peer{Name: "n"}}},
		{"an empty subject", Record{TLSPeerSubjectName: []string{""}}, Record{TLSPeerSubjectName: []string{""}}},
		{"not UTF-8", Record{Sender: "\xff@x"}, Record{Sender: "\uFFFD@x"}},
		{"odd code", Record{Response: Response{Code: -1, Enhanced: [3]int{0, 0, 7}}}, Record{Response: Response{Code: -1, Enhanced: [3]int{0, 0, 7}}}},
		{"largest", Record{Size: math.MaxInt64, Attempts: math.MaxInt}, Record{Size: math.MaxInt64, Attempts: math.MaxInt}},
		{"too early", Record{Time: year(-5)}, Record{Time: first}},
		{"too late", Record{Time: year(10000)}, Record{Time: last}},
		{"JSON in metadata", Record{Meta: map[string]string{"a": `{"b":1}`}}, Record{Meta: map[string]string{"a": `{"b":1}`}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Type, tt.want.Type = Bounce, Bounce
			if got := roundTrip(t, tt.in); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// TestRecordFromKumoMTA reads a record with the fields that only KumoMTA has.
func TestRecordFromKumoMTA(t *testing.T) {
	const line = `{"type":"Bounce","id":"1d98076abbbc11ed940250ebf67f93bd","sender":"s@x","recipient":["r@y"],
		"queue":"c:t@y","site":"mx.y","size":7,"response":{"code":550,"enhanced_code":null,"content":"no","command":null},
		"peer_address":{"name":"mx.y.","addr":"192.0.2.1"},"timestamp":1757070000,"created":1757069999,"num_attempts":2,
		"bounce_classification":"InvalidRecipient","egress_pool":"p","egress_source":"s","source_address":{"address":"10.0.0.1:25"},
		"feedback_report":null,"meta":{"n":1,"list":["a"],"s":"text"},"headers":{"Subject":["a","b"]},"delivery_protocol":"ESMTP",
		"reception_protocol":"ESMTP","nodeid":"557f3ad4-2c8c-11ee-976e-782d7e12e173","tls_cipher":null,"tls_peer_subject_name":[],
		"provider_name":"p","session_id":null,"unknown":{"a":[1,2]}}`
	var got Record
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	id, err := spool.ParseID("1d98076abbbc11ed940250ebf67f93bd")
	if err != nil {
		t.Fatal(err)
	}
	want := Record{
		Type: Bounce, ID: id, Sender: "s@x", Recipients: []string{"r@y"}, Queue: "c:t@y", Site: "mx.y", Size: 7, Attempts: 2,
		Time: time.Unix(1757070000, 0).UTC(), Created: time.Unix(1757069999, 0).UTC(),
		Response:    Response{Code: 550, Content: "no"},
		PeerAddress: Peer{Name: "mx.y.", Addr: "192.0.2.1"}, ReceptionProtocol: "ESMTP", DeliveryProtocol: "ESMTP",
		NodeID:  "557f3ad4-2c8c-11ee-976e-782d7e12e173",
		Meta:    map[string]string{"n": "1", "list": `["a"]`, "s": "text"},
		Headers: map[string]string{"Subject": `["a","b"]`},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestRecordUnmarshalErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{}`, "queue: record has no type"},
		{`[]`, "queue: record is not a log_record"},
		{`{"type":"Bounce","id":"xyz"}`, `queue: record: spool: ID "xyz"`},
		{`{"type":"Bounce","event_time":"yesterday"}`, "queue: record: event_time"},
		{`{"type":"Bounce","created_time":"yesterday"}`, "queue: record: created_time"},
		{`{"type":"Bounce","recipient":{"a":1}}`, "recipient"},
		{`{"type":"Bounce","size":1e400}`, "size"},
	}
	for _, tt := range tests {
		r := Record{Type: Delivery, Sender: "kept"}
		err := json.Unmarshal([]byte(tt.in), &r)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.in, err, tt.want)
		}
		if r.Type != Delivery || r.Sender != "kept" {
			t.Errorf("%s: the record was changed to %+v", tt.in, r)
		}
	}
}

func TestNewRecord(t *testing.T) {
	e := goldenEntry(t)
	now := time.Now() // with a monotonic reading
	r := newRecord(TransientFailure, e, now, Response{Code: 450}, "node")
	if r.PeerAddress != (Peer{Name: "client.example.com", Addr: "2001:db8::1"}) {
		t.Errorf("PeerAddress = %+v", r.PeerAddress)
	}
	if !r.Time.Equal(now) || r.Time != r.Time.Round(0).UTC() {
		t.Errorf("Time = %v, want %v in UTC without monotonic reading", r.Time, now)
	}
	if !reflect.DeepEqual(r.TLSPeerSubjectName, []string{"CN=client.example.com"}) {
		t.Errorf("TLSPeerSubjectName = %q", r.TLSPeerSubjectName)
	}
	if got := roundTrip(t, r); !reflect.DeepEqual(got, r) {
		t.Errorf("after a round trip\n got %+v\nwant %+v", got, r)
	}
	r.Meta["tenant"] = "changed"
	r.Recipients[0] = "changed"
	if e.Meta["tenant"] == "changed" || e.Envelope.Recipients[0].Address == "changed" {
		t.Error("the record shares memory with its entry")
	}
}

func TestNewRecordPeer(t *testing.T) {
	tests := []struct{ from, want string }{
		{"192.0.2.1:25", "192.0.2.1"},
		{"192.0.2.1", "192.0.2.1"},
		{"[2001:db8::1]:25", "2001:db8::1"},
		{"2001:db8::1", "2001:db8::1"},
		{"/run/smtp.sock", "/run/smtp.sock"},
		{"", ""},
	}
	for _, tt := range tests {
		e := &spool.Entry{Meta: map[string]string{"received_from": tt.from}}
		if got := newRecord(Bounce, e, time.Now(), Response{}, "").PeerAddress.Addr; got != tt.want {
			t.Errorf("received_from %q: address %q, want %q", tt.from, got, tt.want)
		}
	}
}

func TestLogRecord(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	r := goldenRecords(t)[2]
	logRecord(t.Context(), l, r)
	const want = `level=WARN msg="mail record" type=Bounce id=0195a1b2c3d47e5f8a9b0c1d2e3f4a5b queue=deferred_smtp_inject.kumomta.internal ` +
		`sender=user@sender.example.com recipients=user@recipient.example.com,second@recipient.example.com size=1047 attempts=3 ` +
		`code=550 content="no key" session_id=0195a1b2-0000-7000-8000-000000000001` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	out.Reset()
	l.Warn("x", "record", r)
	if !strings.Contains(out.String(), "record.type=Bounce") || strings.Contains(out.String(), "tenant") {
		t.Errorf("LogValue: %s", out.String())
	}
	out.Reset()
	r.Type = Delivery
	logRecord(t.Context(), l, r)
	if !strings.HasPrefix(out.String(), "level=INFO ") {
		t.Errorf("a delivery is logged as %s", out.String())
	}
}

func FuzzRecordUnmarshal(f *testing.F) {
	for _, r := range goldenRecords(f) {
		line, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"type":"x","recipient":[""],"timestamp":-99999999999999,"meta":{"a":null}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var r Record
		if json.Unmarshal(line, &r) != nil {
			return
		}
		if got := roundTrip(t, r); !reflect.DeepEqual(got, r) {
			t.Fatalf("got %+v\nwant %+v", got, r)
		}
	})
}

func FuzzRecordMarshal(f *testing.F) {
	f.Add("s", "r", "content\r\n", "key", "value", int64(1), int64(0), 450)
	f.Add("", "", "\xff\u2028", "", "\x00", int64(math.MinInt64), int64(math.MaxInt64), -1)
	f.Fuzz(func(t *testing.T, sender, rcpt, content, key, value string, size, at int64, code int) {
		r := Record{
			Type: Bounce, Sender: sender, Recipients: []string{rcpt}, Size: size, Time: time.Unix(at, at), Attempts: code,
			Response: Response{Code: code, Enhanced: [3]int{code, 0, 1}, Content: content, Command: key},
			Meta:     map[string]string{key: value}, PeerAddress: Peer{key, value}, TLSPeerSubjectName: []string{key, value},
		}
		once := roundTrip(t, r)
		if twice := roundTrip(t, once); !reflect.DeepEqual(twice, once) {
			t.Fatalf("got %+v\nwant %+v", twice, once)
		}
		valid := utf8.ValidString(sender) && utf8.ValidString(content) && utf8.ValidString(key) && utf8.ValidString(value)
		if valid && (once.Sender != sender || once.Meta[key] != value || once.Size != size || once.Response != r.Response) {
			t.Fatalf("got %+v\nwant %+v", once, r)
		}
	})
}
