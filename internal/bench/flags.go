package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// newFlags returns a set whose errors and help go to w.
func newFlags(name string, w io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	fs.SetOutput(w)
	return fs
}

// parse parses args, all of which must be flags.
func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(fs.Output(), "bench: %q is no flag\n", fs.Arg(0))
		return errUsage
	}
	return nil
}

// given reports which flags were set.
func given(fs *flag.FlagSet) map[string]bool {
	set := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	return set
}

// A list is a flag whose value is separated by commas.
type list[T any] struct {
	values []T
	parse  func(string) (T, error)
	format func(T) string
}

// String formats the list as it is given on the command line.
func (l *list[T]) String() string {
	if l == nil || l.format == nil {
		return ""
	}
	parts := make([]string, len(l.values))
	for i, v := range l.values {
		parts[i] = l.format(v)
	}
	return strings.Join(parts, ",")
}

// Set replaces the list.
func (l *list[T]) Set(s string) error {
	var values []T
	for part := range strings.SplitSeq(s, ",") {
		v, err := l.parse(strings.TrimSpace(part))
		if err != nil {
			return err
		}
		values = append(values, v)
	}
	l.values = values
	return nil
}

func sizes(values ...int) *list[int] {
	return &list[int]{values: values, parse: parseSize, format: formatSize}
}

func counts(values ...int) *list[int] {
	return &list[int]{values: values, parse: parseCount, format: strconv.Itoa}
}

// names is a list of some of the words that are allowed.
func names(allowed []string, values ...string) *list[string] {
	return &list[string]{
		values: values,
		parse: func(s string) (string, error) {
			for _, a := range allowed {
				if s == a {
					return s, nil
				}
			}
			return "", fmt.Errorf("%q is none of %s", s, strings.Join(allowed, ", "))
		},
		format: func(s string) string { return s },
	}
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no number from 1 on", s)
	}
	return n, nil
}

// minSize leaves room for the header of a test message.
const minSize = 512

var units = []struct {
	name  string
	bytes int
}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}, {"B", 1}}

// parseSize reads "4KB", "1.5MB", "25MB" or a number of bytes. KB means 1,024 bytes.
func parseSize(s string) (int, error) {
	number, factor := s, 1
	for _, u := range units {
		if rest, ok := strings.CutSuffix(strings.ToUpper(s), u.name); ok {
			number, factor = rest, u.bytes
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f*float64(factor) >= minSize && f*float64(factor) <= 1<<30) {
		return 0, fmt.Errorf("%q is no size from %dB to 1GB, like 4KB or 1MB", s, minSize)
	}
	return int(f * float64(factor)), nil
}

// formatSize is what parseSize reads.
func formatSize(n int) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.Itoa(n/u.bytes) + u.name
		}
	}
	return strconv.Itoa(n)
}
