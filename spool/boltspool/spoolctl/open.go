package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
)

// look opens a spool to be read only, and closes it when use has returned.
func (a *app) look(dir string, use func(s *boltspool.Spool) error) error {
	s, err := a.open(dir, &boltspool.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close())
}

func (a *app) open(dir string, opts *boltspool.Options) (*boltspool.Spool, error) {
	opts.LockTimeout = -1
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler) // what matters is told in other ways
	}
	s, err := boltspool.Open(dir, opts)
	if err != nil {
		return nil, cannotOpen(dir, err, opts.ReadOnly)
	}
	return s, nil
}

// cannotOpen is the error of opening a spool, with what can be done about it.
func cannotOpen(dir string, err error, readOnly bool) error {
	usage := &usageError{err: err}
	switch {
	case errors.Is(err, boltspool.ErrInUse) && readOnly:
		usage.hint = "To look into it have the host take a backup, by Spool.Backup, and look at that; or stop the host."
	case errors.Is(err, boltspool.ErrInUse):
		usage.hint = "Stop the host first."
	case errors.Is(err, checkpoint.ErrDamaged):
		usage.hint = "Here: spoolctl rebuild " + dir
	}
	return usage
}

// mustBeSpool refuses a directory in which opening would make a new spool.
func mustBeSpool(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "FORMAT")); errors.Is(err, fs.ErrNotExist) {
		return &usageError{err: fmt.Errorf("%s is not a spool: it has no file FORMAT", dir)}
	}
	return nil
}

// oneDir returns the only argument.
func oneDir(args []string) (string, error) {
	switch len(args) {
	case 0:
		return "", wrong("the directory of a spool is missing")
	case 1:
		return args[0], nil
	}
	return "", wrong("%q: there are too many arguments", args[1])
}

// dirAndIDs returns the directory, and the IDs behind it. For - they are read from
// standard input, which may have none; ids is nil only if none were asked for.
func (a *app) dirAndIDs(args []string) (dir string, ids []spool.ID, err error) {
	if len(args) == 0 {
		return "", nil, wrong("the directory of a spool is missing")
	}
	for _, arg := range args[1:] {
		if ids == nil {
			ids = []spool.ID{}
		}
		words := []string{arg}
		if arg == "-" {
			if words, err = a.words(); err != nil {
				return "", nil, err
			}
		}
		for _, word := range words {
			id, err := spool.ParseID(word)
			if err != nil {
				return "", nil, wrong("%w", err)
			}
			ids = append(ids, id)
		}
	}
	return args[0], ids, nil
}

// words reads standard input.
func (a *app) words() (words []string, err error) {
	in := bufio.NewScanner(a.stdin)
	for in.Scan() {
		words = append(words, strings.Fields(in.Text())...)
	}
	return words, in.Err()
}

// damaged reports damage, and goes on.
func (a *app) damaged(corrupt *spool.CorruptError) {
	a.left = true
	a.complain("damaged: %s", describe(corrupt))
}

// describe says what is damaged, and how; or, of another error, what it says.
func describe(err error) string {
	corrupt, ok := errors.AsType[*spool.CorruptError](err)
	if !ok {
		return clean(err.Error())
	}
	if corrupt.ID.IsZero() { // a part of the log, which the cause names
		return clean(corrupt.Err.Error())
	}
	return clean(fmt.Sprintf("%s %s: %v", corrupt.Part, corrupt.ID, corrupt.Err))
}
