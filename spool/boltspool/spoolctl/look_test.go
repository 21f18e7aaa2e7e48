package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestList(t *testing.T) {
	dir, _ := testSpool(t)
	call(t, "list", dir, "-utc").want(t, exitFine, `
ID                                QUEUE        CLASS  STATE   DUE (UTC)             AGE  ATTEMPTS     SIZE  SENDER              RECIPIENT              ERROR
01900000000070008000000000000001  inbox        acme   queued  2030-01-02 12:13:00  3h7m         7       68  <News@Example.org>  <a@example.com>        451 4.4.1 no route yet
01900000000070008000000000000002  inbox        other  queued  2030-01-02 12:00:00  3h7m         0       46  <news@example.org>  <b@example.com> +1
01900000000070008000000000000003  example.net  -      held    2030-01-02 13:00:00  2d2h         2       30  <>                  <caf\xe9@example.net>  evil \x1b[2J\r\nlong long long long long long long long lon…
01900000000070008000000000000004  example.net  -      final   2030-01-02 12:00:00   30s         0  2097152  <d@example.org>     <e@example.net>
`)
	if r := call(t, "list", dir); !strings.Contains(r.out, "  DUE        ") || !strings.Contains(r.out, "2030-01-02 14:13:00") {
		t.Errorf("in the zone of the process: %s", r.out)
	}
	call(t, "list", dir, "-json", "-utc", "-limit", "3", "-after", id(2).String()).want(t, exitFine, `
{"id":"01900000000070008000000000000003","queue":"example.net","class":"-","state":"held","due":"2030-01-02T13:00:00Z","received":"2029-12-31T10:00:00Z","attempts":2,"interrupted":0,"last_error":"evil \u001b[2J\r\n`+strings.Repeat("long ", 20)+`","envelope":{"sender":"","recipients":[{"address":{"base64":"Y2Fm6UBleGFtcGxlLm5ldA=="}}]},"size":30,"header":"Subject: TWO\r\n","skip":14,"body":"`+bodyOf(t, dir, 3)+`"}
{"id":"01900000000070008000000000000004","queue":"example.net","class":"-","state":"final","due":"2030-01-02T12:00:00Z","received":"2030-01-02T11:59:30Z","attempts":0,"interrupted":0,"envelope":{"sender":"d@example.org","recipients":[{"address":"e@example.net"}]},"size":2097152,"header":"","body":"`+bodyOf(t, dir, 4)+`","outcome":{"type":"Bounce","to":"<e>"}}
`)
	empty := filepath.Join(tempDir(t), "empty")
	openSpool(t, empty).Close()
	call(t, "list", empty).want(t, exitFine, "ID  QUEUE  CLASS  STATE  DUE  AGE  ATTEMPTS  SIZE  SENDER  RECIPIENT  ERROR")
	call(t, "list", empty, "-json").want(t, exitFine, "")
}

// bodyOf returns the ID of a body.
func bodyOf(t *testing.T, dir string, n int) string {
	t.Helper()
	var v struct{ Body string }
	if err := json.Unmarshal([]byte(call(t, "show", dir, "-json", id(n).String()).out), &v); err != nil {
		t.Fatal(err)
	}
	return v.Body
}

func TestFilters(t *testing.T) {
	dir, _ := testSpool(t)
	for _, test := range []struct {
		args string
		want string // numbers of messages
	}{
		{"", "1 2 3 4"},
		{"-queue inbox", "1 2"},
		{"-queue example", ""},
		{"-class -", "3 4"},
		{"-class acme", "1"},
		{"-state queued", "1 2"},
		{"-state held", "3"},
		{"-state final", "4"},
		{"-sender NEWS@", "1 2"},
		{"-sender <>", "3"},
		{"-recipient C@example", "2"},
		{"-recipient example.net", "3 4"},
		{"-older 3h7m", "1 2 3"},
		{"-older 3h8m", "3"},
		{"-older 2d", "3"},
		{"-older 2.5d", ""},
		{"-attempts 2", "1 3"},
		{"-attempts 8", ""},
		{"-limit 4", "1 2 3 4"},
		{"-after " + id(2).String(), "3 4"},
		{"-after 01900000-0000-7000-8000-000000000003", "4"},
		{"-queue inbox -class other -attempts 0", "2"},
		{"-sender example.org -recipient example.net", "4"},
	} {
		var got []string
		r := call(t, append([]string{"list", "-json", dir}, strings.Fields(test.args)...)...)
		for line := range strings.Lines(r.out) {
			var v struct{ ID spool.ID }
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			got = append(got, fmt.Sprint(v.ID[15]))
		}
		if strings.Join(got, " ") != test.want || r.code != exitFine || r.errors != "" {
			t.Errorf("%s: got %v, want %s; %s", test.args, got, test.want, r.errors)
		}
	}
	r := call(t, "list", dir, "-limit", "1", "-state", "queued")
	r.wantError(t, "there are more", "-after "+id(1).String())
	if r.code != exitFine || strings.Count(r.out, "\n") != 2 {
		t.Errorf("a page of one: %+v", r)
	}
}

func TestQueues(t *testing.T) {
	dir, _ := testSpool(t)
	call(t, "queues", dir).want(t, exitFine, `
QUEUE        CLASS  STATE   ENTRIES    BYTES  OLDEST  NEXT DUE
example.net  -      held          1       30    2d2h  2030-01-02 15:00:00
example.net  -      final         1  2097152     30s  2030-01-02 14:00:00
inbox        acme   queued        1       68    3h7m  2030-01-02 14:13:00
inbox        other  queued        1       46    3h7m  2030-01-02 14:00:00
`)
	call(t, "queues", "-json", "-utc", dir).want(t, exitFine, `
{"queue":"example.net","class":"-","state":"held","entries":1,"bytes":30,"oldest":"2029-12-31T10:00:00Z","next_due":"2030-01-02T13:00:00Z"}
{"queue":"example.net","class":"-","state":"final","entries":1,"bytes":2097152,"oldest":"2030-01-02T11:59:30Z","next_due":"2030-01-02T12:00:00Z"}
{"queue":"inbox","class":"acme","state":"queued","entries":1,"bytes":68,"oldest":"2030-01-02T08:53:00Z","next_due":"2030-01-02T12:13:00Z"}
{"queue":"inbox","class":"other","state":"queued","entries":1,"bytes":46,"oldest":"2030-01-02T08:53:00Z","next_due":"2030-01-02T12:00:00Z"}
`)
}

func TestShow(t *testing.T) {
	dir, _ := testSpool(t)
	call(t, "show", dir, id(1).String(), id(3).String(), id(4).String()).want(t, exitFine, `
ID          01900000000070008000000000000001
Queue       inbox, class acme
State       queued
Due         2030-01-02 14:13:00 +0200, in 13m
Received    2030-01-02 10:53:00 +0200, 3h7m ago
Expires     2030-01-04 14:00:00 +0200, in 2d0h
Attempts    7 failed, 1 interrupted
Last error  451 4.4.1 no route yet
Sender      <News@Example.org>
Recipient   <a@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;x@example.com
Parameters  BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=e1
Meta        hostname = mx
Meta        tenant = acme
Content     68 bytes: a header of 45, then the body
Body        `+bodyOf(t, dir, 1)+`, 23 bytes, whole
Header      Received: from client
                for <a@example.com>

ID          01900000000070008000000000000003
Queue       example.net, class -
State       held
Due         2030-01-02 15:00:00 +0200, in 1h0m
Received    2029-12-31 12:00:00 +0200, 2d2h ago
Attempts    2 failed, 0 interrupted
Last error  evil \x1b[2J\r\n`+strings.Repeat("long ", 20)+`
Sender      <>
Recipient   <caf\xe9@example.net>
Content     30 bytes: a header of 14, then the body from byte 14 on
Body        `+bodyOf(t, dir, 3)+`, 30 bytes, whole
Header      Subject: TWO

ID          01900000000070008000000000000004
Queue       example.net, class -
State       final
Due         2030-01-02 14:00:00 +0200, 0s ago
Received    2030-01-02 13:59:30 +0200, 30s ago
Attempts    0 failed, 0 interrupted
Sender      <d@example.org>
Recipient   <e@example.net>
Content     2097152 bytes: a header of 0, then the body
Body        `+bodyOf(t, dir, 4)+`, 2097152 bytes, whole
Outcome     {"type": "Bounce", "to": "<e>"}
`)
	list := call(t, "list", dir, "-json")
	var ids []string
	for n := range 4 {
		ids = append(ids, id(n+1).String())
	}
	r := callWith(t.Context(), strings.Join(ids, "\n"), "show", dir, "-json", "-")
	r.want(t, exitFine, list.out)

	r = call(t, "show", dir, id(9).String(), id(2).String())
	if r.code != exitLeft || !strings.Contains(r.out, id(2).String()) {
		t.Errorf("with an ID that is not there: %+v", r)
	}
	r.wantError(t, "there is no message "+id(9).String())
}

func TestDamage(t *testing.T) {
	dir, _ := testSpool(t)
	body1, body4 := bodyOf(t, dir, 1), bodyOf(t, dir, 4)
	spoil(t, dir, "Subject: one")
	spoil(t, dir, "0123456789abcde\n")
	spoil(t, dir, "caf\xe9@")

	r := call(t, "list", dir)
	if r.code != exitLeft || strings.Count(r.out, "\n") != 4 {
		t.Errorf("list: %+v", r)
	}
	r.wantError(t, "spoolctl: damaged: entry "+id(3).String()+": ")

	r = call(t, "show", dir, id(1).String())
	if r.code != exitLeft || !strings.Contains(r.out, "Sender      <News@Example.org>\n") || !strings.Contains(r.out, "Damage      body "+body1+": ") {
		t.Errorf("show of a message with a damaged body: %+v", r)
	}
	r = call(t, "show", dir, "-json", id(4).String())
	if r.code != exitLeft || !strings.Contains(r.out, `"damage":"body `+body4+`: wrong checksum of the block at byte 0"}`) {
		t.Errorf("show of a message with a damaged file: %+v", r)
	}
	r = call(t, "show", dir, id(3).String())
	if r.code != exitLeft || !strings.HasPrefix(r.out, "ID          "+id(3).String()+"\nDamage      entry "+id(3).String()+": ") {
		t.Errorf("show of a damaged message: %+v", r)
	}
	r = call(t, "show", dir, "-json", id(3).String())
	if r.code != exitLeft || !strings.HasPrefix(r.out, `{"damage":"entry `+id(3).String()+": ") {
		t.Errorf("show of a damaged message: %+v", r)
	}

	other, _ := testSpool(t)
	spoil(t, other, "News@Example.org")
	r = call(t, "show", other, id(0).String()) // before one that is damaged
	if r.code != exitLeft || r.out != "" || !strings.Contains(r.errors, "there is no message") {
		t.Errorf("show of a message that is not there: %+v", r)
	}

	r = call(t, "verify", dir)
	want := []string{
		"damaged: body " + body1 + ": ", "damaged: entry " + id(3).String() + ": ", "damaged: body " + body4 + ": ",
		"3 entries, 0 bodies of 0 bytes, 3 damaged\n",
	}
	for line := range strings.Lines(r.out) {
		if len(want) == 0 || !strings.HasPrefix(line, want[0]) {
			t.Fatalf("verify writes %q, want %q", line, want)
		}
		want = want[1:]
	}
	if r.code != exitLeft || len(want) > 0 {
		t.Errorf("verify: %+v, and %q is missing", r, want)
	}
}
