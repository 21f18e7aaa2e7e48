package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

func showCommand() *command {
	return &command{
		name: "show", args: "DIR ID... [flags]", short: "show all about messages",
		long: `
Shows everything about the messages with these IDs in the spool in DIR: where it
is, its times, what became of it, envelope, metadata, and the header fields that
stand in front of the body. It reads the body too, and says whether it is whole.
For - it reads IDs from standard input.

What is not UTF-8 is an object with the member "base64" in JSON.`,
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			a.defineOutput(fs)
			return func(args []string) error {
				dir, ids, err := a.dirAndIDs(args)
				if err == nil && len(ids) == 0 {
					err = wrong("the ID of a message is missing")
				}
				if err != nil {
					return err
				}
				return a.look(dir, func(s *boltspool.Spool) error { return a.showAll(s, ids) })
			}
		},
	}
}

func (a *app) showAll(s *boltspool.Spool, ids []spool.ID) error {
	for i, id := range ids {
		if i > 0 && !a.json {
			a.stdout.WriteString("\n")
		}
		if err := a.show(s, id); err != nil {
			return err
		}
	}
	return nil
}

// show writes all about an entry.
func (a *app) show(s *boltspool.Spool, id spool.ID) error {
	e, err := a.lookUp(s, id)
	if errors.Is(err, spool.ErrNotFound) {
		a.left = true
		a.complain("there is no message %s", id)
		return nil
	}
	if corrupt, ok := errors.AsType[*spool.CorruptError](err); ok {
		return a.showDamaged(corrupt)
	}
	if err != nil {
		return err
	}
	size, damage := readThrough(a.ctx, s, e.Body)
	if damage != nil {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		a.left = true
	}
	if a.json {
		v := a.view(e)
		if damage != nil {
			v.Damage = describe(damage)
		}
		return a.writeJSON(v)
	}
	a.write(e, size, damage)
	return nil
}

// showDamaged writes what is left of an entry: its ID.
func (a *app) showDamaged(corrupt *spool.CorruptError) error {
	a.left = true
	if a.json {
		return a.writeJSON(map[string]string{"id": corrupt.ID.String(), "damage": describe(corrupt)})
	}
	a.field("ID", corrupt.ID.String())
	a.field("Damage", describe(corrupt))
	return nil
}

// readThrough reads a body up to its end, or to its damage.
func readThrough(ctx context.Context, s *boltspool.Spool, id spool.ID) (size int64, err error) {
	b, err := s.Open(ctx, id)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	_, err = io.Copy(io.Discard, contextReader{ctx, b})
	return b.Size(), err
}

// A contextReader reads until ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (a *app) field(name string, lines ...string) {
	for _, line := range lines {
		fmt.Fprintf(a.stdout, "%-12s%s\n", name, line)
		name = ""
	}
}

func (a *app) write(e *spool.Entry, size int64, damage error) {
	a.field("ID", e.ID.String())
	a.field("Queue", fmt.Sprintf("%s, class %s", clean(e.Queue), clean(e.Class)))
	a.field("State", e.State.String())
	a.field("Due", a.zoned(e.Due))
	a.field("Received", a.zoned(e.Received))
	if !e.Expires.IsZero() {
		a.field("Expires", a.zoned(e.Expires))
	}
	a.field("Attempts", fmt.Sprintf("%d failed, %d interrupted", e.Attempts, e.Interrupted))
	if e.LastError != "" {
		a.field("Last error", clean(e.LastError))
	}
	a.writeEnvelope(&e.Envelope)
	for _, k := range slices.Sorted(maps.Keys(e.Meta)) {
		a.field("Meta", clean(k)+" = "+clean(e.Meta[k]))
	}
	content := fmt.Sprintf("%d bytes: a header of %d, then the body", e.Size, len(e.Header))
	if e.Skip > 0 {
		content += fmt.Sprintf(" from byte %d on", e.Skip)
	}
	a.field("Content", content)
	if damage == nil {
		a.field("Body", fmt.Sprintf("%s, %d bytes, whole", e.Body, size))
	} else {
		a.field("Body", e.Body.String())
		a.field("Damage", describe(damage))
	}
	if len(e.Header) > 0 {
		a.field("Header", headerLines(e.Header)...)
	}
	if e.Outcome != nil {
		a.field("Outcome", clean(string(e.Outcome)))
	}
}

func (a *app) writeEnvelope(env *spool.Envelope) {
	a.field("Sender", address(env.Sender))
	for _, r := range env.Recipients {
		line := address(r.Address)
		if len(r.Notify) > 0 {
			line += " NOTIFY=" + clean(strings.Join(r.Notify, ","))
		}
		if r.ORcpt != "" {
			line += " ORCPT=" + clean(r.ORcpt)
		}
		a.field("Recipient", line)
	}
	var params []string
	for _, p := range []struct {
		name, value string
		set         bool
	}{
		{"BODY=", env.Body, env.Body != ""}, {"SMTPUTF8", "", env.SMTPUTF8}, {"REQUIRETLS", "", env.RequireTLS},
		{"RET=", env.Ret, env.Ret != ""}, {"ENVID=", env.EnvID, env.EnvID != ""},
	} {
		if p.set {
			params = append(params, p.name+clean(p.value))
		}
	}
	if params != nil {
		a.field("Parameters", strings.Join(params, " "))
	}
}

func headerLines(header []byte) (lines []string) {
	for line := range strings.Lines(string(header)) {
		line = strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "    ")
		lines = append(lines, clean(line))
	}
	return lines
}
