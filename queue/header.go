package queue

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// A Header is the header section of a message (RFC 5322, section 2.2), trace
// fields included, for reading and editing. It keeps the bytes and the order
// of every field that is not edited: folding, odd spacing, bare LF, 8-bit
// bytes, and lines that are no fields at all. It is not safe for concurrent
// use, and its edits become durable as those of its [Message] do.
//
// Names are compared without case. Values are raw: what is not ASCII should be
// encoded as RFC 2047 says before it is set, and is returned as it stands
// (mime.WordDecoder decodes). No value can bring in another field: each run of
// CR, LF and NUL in it becomes one space, or none before white space. Values are folded at white space into
// lines of at most 78 characters where they have white space in the right
// places. New fields end as the lines of the message do, with CRLF or bare LF.
//
// An edit that would damage the message is left out, and the attempt is then a
// transient failure that says which edit it was, whatever the handler returns:
// a message does not pass on without the signature that it was to have. Such
// edits are those with a name that is no field name (RFC 5322, section 3.6.8),
// and PrependRaw of what is not exactly one field.
type Header struct {
	items []headerItem
	rest  []byte // what stands in front behind an empty line; nothing of section is header then
	eol   string // of new fields

	length  int  // bytes of section that are its header, without the empty line
	orphan  bool // section is no header at all, and its first line would continue a field before it
	changed bool // an edit was made
	inner   bool // to a field inside section
	front   []byte
	err     error // the first edit that was left out
}

// A headerItem is a field with its continuation lines, or a line that is none.
type headerItem struct {
	raw   []byte // with the line ending; never changed
	name  int    // bytes of raw that are the name; 0: not a field
	colon int    // index of the colon in raw
	inner bool   // stands in section
}

// is reports whether the item is a field of that name.
func (f *headerItem) is(name string) bool {
	return f.name > 0 && f.name == len(name) && strings.EqualFold(string(f.raw[:f.name]), name)
}

// value returns the field's value, unfolded and trimmed.
func (f *headerItem) value() string {
	value := string(f.raw[f.colon+1:])
	if strings.Contains(value, "\n") {
		value = strings.ReplaceAll(value, "\r\n", "")
		value = strings.ReplaceAll(value, "\n", "")
	}
	return strings.Trim(value, " \t")
}

// Get returns the value of the first field of that name, unfolded (RFC 5322,
// section 2.2.3) and without the white space around it, empty if there is
// none. It is not decoded.
func (h *Header) Get(name string) string {
	if i := h.find(name); i >= 0 {
		return h.items[i].value()
	}
	return ""
}

// Values returns the values of all fields of that name as Get does, from the
// top down, nil if there is none.
func (h *Header) Values(name string) []string {
	var values []string
	for i := range h.items {
		if h.items[i].is(name) {
			values = append(values, h.items[i].value())
		}
	}
	return values
}

// find returns the index of the first field of that name, -1 if there is none.
func (h *Header) find(name string) int {
	return slices.IndexFunc(h.items, func(f headerItem) bool { return f.is(name) })
}

// Set puts a field in the place of the first one of that name and deletes the
// others. If there is none it appends.
func (h *Header) Set(name, value string) {
	f, ok := h.newField("Set", name, value)
	if !ok {
		return
	}
	i := h.find(name)
	if i < 0 {
		h.append(f)
		return
	}
	f.inner = h.items[i].inner
	h.edit(f.inner)
	h.items[i] = f
	h.del(name, i+1)
}

// Del deletes all fields of that name.
func (h *Header) Del(name string) { h.del(name, 0) }

// del deletes all fields of that name from index from on.
func (h *Header) del(name string, from int) {
	kept := h.items[:from]
	for _, f := range h.items[from:] {
		if f.is(name) {
			h.edit(f.inner)
			continue
		}
		kept = append(kept, f)
	}
	clear(h.items[len(kept):])
	h.items = kept
}

// Prepend puts a field at the very top, above the trace fields. It does not
// copy the header of the stored body, as the edits of its fields do.
func (h *Header) Prepend(name, value string) {
	if f, ok := h.newField("Prepend", name, value); ok {
		h.prepend(f)
	}
}

// PrependRaw puts one complete field at the very top, byte for byte, such as a
// DKIM-Signature (RFC 6376, section 3.5). A missing line ending is added.
// field is copied. It must be exactly one field, with its continuation lines:
// anything else is left out, see [Header].
func (h *Header) PrependRaw(field []byte) {
	raw := bytes.Clone(field)
	if !bytes.HasSuffix(raw, []byte("\n")) {
		raw = append(raw, h.eol...)
	}
	items, length := splitItems(raw)
	if length != len(raw) || len(items) != 1 || items[0].name == 0 {
		h.refuse("PrependRaw: want exactly one field, complete and without an empty line; got %q", field)
		return
	}
	h.prepend(items[0])
}

// Append puts a field at the end of the header section.
func (h *Header) Append(name, value string) {
	if f, ok := h.newField("Append", name, value); ok {
		h.append(f)
	}
}

func (h *Header) prepend(f headerItem) {
	h.edit(false)
	h.items = slices.Insert(h.items, 0, f)
}

func (h *Header) append(f headerItem) {
	f.inner = h.length > 0
	h.edit(f.inner)
	if n := len(h.items); n > 0 && !bytes.HasSuffix(h.items[n-1].raw, []byte("\n")) {
		last := &h.items[n-1]
		last.raw = append(bytes.Clone(last.raw), h.eol...)
	}
	h.items = append(h.items, f)
}

// edit notes that a field was edited.
func (h *Header) edit(inner bool) {
	h.changed = true
	h.inner = h.inner || inner
}

// newField returns the field of an edit, if it has a name.
func (h *Header) newField(edit, name, value string) (headerItem, bool) {
	if !validFieldName(name) {
		h.refuse("%s: %q is not the name of a header field (RFC 5322, section 3.6.8)", edit, name)
		return headerItem{}, false
	}
	return headerItem{raw: foldField(name, value, h.eol), name: len(name), colon: len(name)}, true
}

// refuse notes an edit that is left out.
func (h *Header) refuse(format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf("queue: header edit left out: %s", oneLine(fmt.Sprintf(format, args...)))
	}
}

// refused returns the first edit that was left out. A handler with one does
// not succeed.
func (h *Header) refused() error { return h.err }

// edited reports whether encode returns anything but what was parsed.
func (h *Header) edited() bool { return h.changed }

// encode returns the bytes that replace front and the first n bytes of
// section. n is 0 as long as no field inside section was edited, and never
// reaches beyond the section's header: the empty line stays where it is.
func (h *Header) encode() (front []byte, n int) {
	if !h.changed {
		return h.front, 0
	}
	if h.inner {
		n = h.length
	}
	var b bytes.Buffer
	for _, f := range h.items {
		if h.inner || !f.inner {
			b.Write(f.raw)
		}
	}
	b.Write(h.rest)
	if h.orphan && b.Len() > 0 {
		b.WriteString(h.eol) // or the text would become part of our field
	}
	return b.Bytes(), n
}
