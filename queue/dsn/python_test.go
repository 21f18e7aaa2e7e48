package dsn

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

var long = flag.Bool("long", false, "also run what needs Python")

// TestPython has another parser read notices, which is not of this language: some that
// are usual, and many that are made of what is odd in addresses, replies and messages.
func TestPython(t *testing.T) {
	if !*long {
		t.Log("short form: go-message reads them in the other tests; with -long Python's email package does, and many more")
		return
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("%v: install python3", err)
	}
	const eight = "Subject: x\r\n\r\nGr\xc3\xbc\xc3\x9fe.\r\n"
	var lines bytes.Buffer
	pythonLine(t, &lines, report(nil), "")
	pythonLine(t, &lines, report(func(r *Report) { r.Envelope.Ret = "FULL" }), content)
	pythonLine(t, &lines, report(func(r *Report) { r.Envelope.Ret, r.Content = "FULL", strings.NewReader(eight) }), eight)
	pythonLine(t, &lines, report(func(r *Report) { r.Envelope.Sender = "ä@example.org" }), "")
	pythonLine(t, &lines, report(func(r *Report) {
		r.Recipients = append(r.Recipients, Recipient{Address: "ä@example.com", ORcpt: "rfc822;x@y"})
	}), "")
	odd := oddities{rand.New(rand.NewPCG(1, 2))}
	for range 600 {
		pythonLine(t, &lines, odd.report(), "")
	}
	cmd := exec.Command(python, "testdata/check.py")
	cmd.Stdin = &lines
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("605 notices were read")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// pythonLine writes a notice as check.py reads it. returned is what has to be in it.
func pythonLine(t *testing.T, b *bytes.Buffer, r *Report, returned string) {
	t.Helper()
	n := newNotice(r.withDefaults())
	class := map[Action]string{Failed: "45", Delayed: "4"}[n.action()]
	if class == "" {
		class = "2"
	}
	parts := 2
	if n.returned != nil {
		parts = 3
	}
	text, err := json.Marshal(map[string]any{
		"notice": n.bytes(), "utf8": r.utf8(), "parts": parts, "recipients": len(r.Recipients),
		"action": n.action(), "class": class, "returned": []byte(returned),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Write(append(text, '\n'))
}

// oddities makes reports of what parsers stumble over.
type oddities struct{ *rand.Rand }

var oddPieces = []string{
	"a", "b.c", "ä", "山", "@", "example.com", `"q  s"`, "\r\n", "\n", ";", ":", "=?utf-8?q?x?=", "(c)", "<", ">", ",", `\`, "\t", " ", "\x00",
	"\xff", "--", "=", "+", strings.Repeat("x", 200), "rfc822;", "\u202e", "\u00ad", "\u2028", "[1.2.3.4]", "group: ;", ".", "Subject: y\r\n",
}

func oneOf[T any](o oddities, all ...T) T { return all[o.IntN(len(all))] }

func (o oddities) word() string {
	var b strings.Builder
	for range 1 + o.IntN(5) {
		b.WriteString(oneOf(o, oddPieces...))
	}
	return b.String()
}

func (o oddities) address() string {
	return oneOf(o, o.word(), fmt.Sprintf("ü%d@ex.example", o.IntN(100)), `"`+o.word()+`"@ex.example`, fmt.Sprintf("a%d@ex.example", o.IntN(100)))
}

func (o oddities) report() *Report {
	r := &Report{
		Envelope: spool.Envelope{Sender: o.address(), EnvID: o.word(), Ret: oneOf(o, "", "FULL", "HDRS")},
		Arrived:  at, Date: at, ReportingMTA: oneOf(o, "relay.example", o.word()), From: oneOf(o, "", o.address()), Text: oneOf(o, "", o.word()),
	}
	action := oneOf(o, Failed, Delayed, Relayed)
	for range 1 + o.IntN(3) {
		r.Recipients = append(r.Recipients, Recipient{
			Address: o.address(), ORcpt: oneOf(o, "", "rfc822;"+o.address(), "utf-8;"+o.address(), o.word()),
			Action: action, Diagnostic: o.word(), RemoteMTA: o.word(), LastTried: at, RetryUntil: at,
		})
	}
	r.Content = strings.NewReader(oneOf(o, content, "Subject: "+o.word()+"\r\n\r\n"+o.word()+"\r\n", o.word(), "From: ä\r\n\r\nä\r\n", "Subject: x\r\n\r\nä\xff\r\n"))
	return r
}
