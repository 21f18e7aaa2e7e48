package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"time"

	"github.com/emersion/go-message/mail"
)

// A letter is a message to be sent.
type letter struct {
	title   string
	from    string
	to      []string
	content []byte
}

// compose makes the messages of the demonstration.
func compose(now time.Time) ([]letter, error) {
	letters := []letter{
		{title: "Plain text", from: "app@example.com", to: []string{"ada@example.net"}},
		{title: "HTML and a picture", from: "app@example.com", to: []string{"grace@example.net"}},
		{title: "Grüße aus Łódź", from: "łukasz@example.com", to: []string{"jürgen@example.net"}},
		{title: "Three recipients", from: "app@example.com",
			to: []string{"ada@example.net", "linus@example.org", "nobody@example.org"}},
	}
	for i := range letters {
		l := &letters[i]
		var b bytes.Buffer
		write := writeText
		if i == 1 {
			write = writeHTML
		}
		if err := write(&b, l.header(now), l.title); err != nil {
			return nil, fmt.Errorf("quickstart: composing %q: %w", l.title, err)
		}
		l.content = b.Bytes()
	}
	return letters, nil
}

func (l *letter) header(now time.Time) mail.Header {
	var h mail.Header
	h.SetDate(now)
	h.SetSubject(l.title)
	h.SetAddressList("From", []*mail.Address{{Name: "Quickstart", Address: l.from}})
	var to []*mail.Address
	for _, addr := range l.to {
		to = append(to, &mail.Address{Address: addr})
	}
	h.SetAddressList("To", to)
	return h
}

func writeText(w io.Writer, h mail.Header, title string) error {
	h.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
	body, err := mail.CreateSingleInlineWriter(w, h)
	if err != nil {
		return err
	}
	fmt.Fprintf(body, "%s: this message was answered 250 before anybody had looked at it.\r\nZażółć gęślą jaźń ✉\r\n", title)
	return body.Close()
}

func writeHTML(w io.Writer, h mail.Header, title string) error {
	mw, err := mail.CreateWriter(w, h)
	if err != nil {
		return err
	}
	var ih mail.InlineHeader
	ih.SetContentType("text/html", map[string]string{"charset": "utf-8"})
	body, err := mw.CreateSingleInline(ih)
	if err != nil {
		return err
	}
	fmt.Fprintf(body, "<!doctype html><title>%s</title>\r\n<p>A picture is <b>attached</b>.</p>\r\n", title)
	if err := body.Close(); err != nil {
		return err
	}
	var ah mail.AttachmentHeader
	ah.SetContentType("image/png", nil)
	ah.SetFilename("picture.png")
	attachment, err := mw.CreateAttachment(ah)
	if err != nil {
		return err
	}
	if err := png.Encode(attachment, picture()); err != nil {
		return err
	}
	if err := attachment.Close(); err != nil {
		return err
	}
	return mw.Close()
}

// picture draws what a photograph would be in real mail: something of a size.
func picture() image.Image {
	const size = 160
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			img.SetNRGBA(x, y, color.NRGBA{R: uint8(x * y), G: uint8(x + y), B: uint8(x ^ y), A: 255})
		}
	}
	return img
}
