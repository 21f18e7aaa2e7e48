package recordlog

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/deferredqueue/deferredqueue/queue"
)

// Options configure a Log. The zero value, and a nil *Options, are ready to use.
type Options struct {
	// MaxBytes ends a segment that has so many bytes of JSON, before compression.
	// Defaults to 1e9, as in KumoMTA.
	MaxBytes int64

	// MaxDuration ends a segment that was begun so long ago, even if nothing is
	// written any more.
	// Defaults to 24 h; a negative value means no limit.
	MaxDuration time.Duration

	// FlushInterval is how long a record that was taken may wait to be on disk, if it
	// is none of a message's end.
	// Defaults to 1 s.
	FlushInterval time.Duration

	// Level is that of zstd, 1 to 22.
	// Defaults to 3.
	Level int

	// Filter decides which records are written; the others count as taken. It is
	// called concurrently, and must not block or retain anything of r.
	// Defaults to all records.
	Filter func(r *queue.Record) bool

	// Meta are the names of metadata that are written; one that ends in * stands for
	// all names that begin so.
	// Defaults to all.
	Meta []string

	// Headers are the names of header fields that are written, of those that
	// queue.Options.RecordHeaders has; * as in Meta.
	// Defaults to all.
	Headers []string

	// PerType says what is different for some types of records.
	// Defaults to nothing.
	PerType map[queue.RecordType]TypeOptions

	// Logger takes what an operator should know.
	// Defaults to slog.Default().
	Logger *slog.Logger
}

// TypeOptions are those of one type of records.
type TypeOptions struct {
	// Off leaves records of this type out.
	// Defaults to false.
	Off bool

	// Suffix gives them segments of their own, with -Suffix in the name. Types with the
	// same suffix share them. It has letters, digits and _ only.
	// Defaults to the segments of all others.
	Suffix string

	// Meta and Headers are as in Options.
	// Defaults to those of Options.
	Meta, Headers []string
}

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.MaxBytes < 0 || opts.FlushInterval < 0 {
		return opts, errors.New("recordlog: Options: MaxBytes and FlushInterval must not be negative")
	}
	if opts.Level < 0 || opts.Level > 22 {
		return opts, fmt.Errorf("recordlog: Options.Level is %d: want 1 to 22", opts.Level)
	}
	setDefault(&opts.MaxBytes, 1e9)
	setDefault(&opts.MaxDuration, 24*time.Hour)
	setDefault(&opts.FlushInterval, time.Second)
	setDefault(&opts.Level, 3)
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	opts.PerType = maps.Clone(opts.PerType)
	for t, per := range opts.PerType {
		if strings.ContainsFunc(per.Suffix, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_')
		}) {
			return opts, fmt.Errorf("recordlog: Options.PerType[%s]: the suffix %q has more than letters, digits and _", t, per.Suffix)
		}
		if per.Meta == nil {
			per.Meta = opts.Meta
		}
		if per.Headers == nil {
			per.Headers = opts.Headers
		}
		opts.PerType[t] = per
	}
	return opts, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) level() zstd.EncoderLevel { return zstd.EncoderLevelFromZstd(o.Level) }

// of returns what is in force for records of a type.
func (o *Options) of(t queue.RecordType) TypeOptions {
	if per, ok := o.PerType[t]; ok {
		return per
	}
	return TypeOptions{Meta: o.Meta, Headers: o.Headers}
}

// selectFields returns the fields whose names are selected; all of them if names is nil.
func selectFields(fields map[string]string, names []string, fold bool) map[string]string {
	if names == nil || len(fields) == 0 {
		return fields
	}
	some := map[string]string{}
	for name, value := range fields {
		if selects(names, name, fold) {
			some[name] = value
		}
	}
	return some
}

func selects(names []string, name string, fold bool) bool {
	for _, n := range names {
		prefix, open := strings.CutSuffix(n, "*")
		if len(name) < len(prefix) || !open && len(name) != len(prefix) {
			continue
		}
		if head := name[:len(prefix)]; head == prefix || fold && strings.EqualFold(head, prefix) {
			return true
		}
	}
	return false
}
