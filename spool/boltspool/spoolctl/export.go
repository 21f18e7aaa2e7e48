package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

const exportDefault = "spool-export"

func exportCommand() *command {
	return &command{
		name: "export", args: "DIR [ID...] [flags]", short: "write messages to files",
		long: `
Writes messages of the spool in DIR to files: the content, byte for byte, as ID.eml,
and what show -json says of it, envelope and metadata among it, as ID.json. Without
IDs it is all that the flags select. For - it reads IDs from standard input. The
directory is made, with mode 0700, the files have mode 0600; none that is there is
overwritten. With -to - the content of one message goes to standard output.

What is damaged is named, and does not stop the others. Of a message whose body is
damaged there is ID.json alone. The messages stay in the spool. Export does not wait
for the disk.`,
		setup: func(a *app, fs *flag.FlagSet) func(args []string) error {
			var f filter
			f.define(fs)
			fs.BoolVar(&a.utc, "utc", false, "write times in UTC, and not in the local zone")
			to := fs.String("to", exportDefault, "the `DIRECTORY` to which the files are written, or -")
			return func(args []string) error {
				dir, ids, err := a.dirAndIDs(args)
				switch {
				case err != nil:
					return err
				case ids != nil && !f.empty():
					return wrong("IDs and flags that select messages exclude each other")
				case *to == "-" && len(ids) != 1:
					return wrong("-to - writes one message: want one ID")
				}
				return a.look(dir, func(s *boltspool.Spool) error { return a.export(s, dir, *to, ids, &f) })
			}
		},
	}
}

func (a *app) export(s *boltspool.Spool, dir, to string, ids []spool.ID, f *filter) error {
	x := &exporter{a: a, s: s, to: to}
	if to == "-" {
		return x.byID(ids, x.print)
	}
	if err := prepareTarget(dir, to); err != nil {
		return err
	}
	var err error
	if ids != nil {
		err = x.byID(ids, x.save)
	} else {
		err = a.scan(s, f, x.save)
	}
	a.left = a.left || x.failed > 0
	fmt.Fprintf(a.stdout, "%d messages, %d bytes, are in %s", x.messages, x.bytes, to)
	if x.failed > 0 {
		fmt.Fprintf(a.stdout, "; %d could not be exported", x.failed)
	}
	a.stdout.WriteString("\n")
	return err
}

// prepareTarget makes the directory, which must not be in that of the spool.
func prepareTarget(dir, to string) error {
	from, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	target, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(from, target); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return wrong("%s is in the spool, to which nothing is written: choose another directory with -to", to)
	}
	return os.MkdirAll(to, 0o700)
}

// An exporter is one export.
type exporter struct {
	a        *app
	s        *boltspool.Spool
	to       string
	messages int
	bytes    int64
	failed   int
}

// byID does something with the messages that have these IDs.
func (x *exporter) byID(ids []spool.ID, do func(e *spool.Entry) error) error {
	for _, id := range ids {
		e, err := x.a.lookUp(x.s, id)
		if corrupt, ok := errors.AsType[*spool.CorruptError](err); ok {
			x.failed++
			x.a.damaged(corrupt)
			continue
		}
		if errors.Is(err, spool.ErrNotFound) {
			x.fail(id, errors.New("there is no such message"))
			continue
		}
		if err == nil {
			err = do(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) fail(id spool.ID, err error) {
	x.failed++
	x.a.left = true
	x.a.complain("message %s: %s", id, describe(err))
}

// print writes the content of a message to standard output.
func (x *exporter) print(e *spool.Entry) error {
	_, err := x.copy(x.a.stdout, e)
	return err
}

// save writes the files of a message. An error ends the export.
func (x *exporter) save(e *spool.Entry) error {
	name := filepath.Join(x.to, e.ID.String())
	for _, end := range []string{".eml", ".json"} {
		if _, err := os.Lstat(name + end); err == nil {
			x.fail(e.ID, fmt.Errorf("%s%s is there already", name, end))
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	v := x.a.view(e)
	n, err := x.saveContent(name+".eml", e)
	if corrupt, ok := errors.AsType[*spool.CorruptError](err); ok {
		v.Damage = describe(corrupt)
		x.fail(e.ID, corrupt)
	} else if err != nil {
		return fmt.Errorf("message %s: %w", e.ID, err)
	}
	b, err := marshal(v)
	if err == nil {
		err = os.WriteFile(name+".json", b, 0o600)
	}
	if err == nil && v.Damage == "" {
		x.messages++
		x.bytes += n
	}
	return err
}

// saveContent writes a file that has its name only if all is in it.
func (x *exporter) saveContent(name string, e *spool.Entry) (n int64, err error) {
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = x.copy(f, e)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		os.Remove(part)
	}
	return n, err
}

// copy writes the content of a message.
func (x *exporter) copy(w io.Writer, e *spool.Entry) (int64, error) {
	b, err := x.s.Open(x.a.ctx, e.Body)
	if err != nil {
		return 0, err
	}
	content := spool.Content(e.Header, b, e.Skip)
	defer content.Close()
	return io.Copy(w, contextReader{x.a.ctx, content})
}
