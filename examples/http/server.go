package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	maxMessage = 20 << 20
	maxRcpts   = 100
	maxKey     = 200

	// metaKey is where the client's own ID of a message is kept.
	metaKey = "idempotency_key"
)

// A server takes messages over HTTP.
type server struct {
	sched  *queue.Scheduler
	keys   *keys
	tokens map[string]string // the tenant of each bearer token
}

func newServer(sched *queue.Scheduler, keys *keys, tokens map[string]string) http.Handler {
	s := &server{sched, keys, tokens}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /messages", s.submit)
	mux.HandleFunc("GET /messages/{id}", s.status)
	return mux
}

// submit takes one message. All that a client must know is the answer: 202 when it is
// stored, 4xx when it must not be sent again as it is, 503 when it should. 422 is for a
// key that another request had: one key, one message.
func (s *server) submit(w http.ResponseWriter, r *http.Request) {
	tenant, ok := s.tenant(r)
	if !ok {
		fail(w, http.StatusUnauthorized, "a bearer token is needed")
		return
	}
	env, err := envelope(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" || len(key) > maxKey {
		fail(w, http.StatusBadRequest, "an Idempotency-Key of up to 200 characters is needed: what came of a request that got no answer is found out by it")
		return
	}
	meta := map[string]string{"tenant": tenant, metaKey: key, "reception_protocol": "HTTP"}
	ids, err := s.accept(r.Context(), env, meta, http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	json.NewEncoder(w).Encode(map[string][]spool.ID{"ids": ids})
}

var errOtherRequest = errors.New("the Idempotency-Key was that of another request")

// accept stores a message. What its envelope has to say of the content is known behind
// the content, which is therefore read before.
func (s *server) accept(ctx context.Context, env spool.Envelope, meta map[string]string, body io.Reader) ([]spool.ID, error) {
	c := newContent(body)
	content, err := io.ReadAll(c)
	if err != nil {
		return nil, err
	}
	if c.eightBit {
		env.Body = "8BITMIME"
	}
	env.SMTPUTF8 = env.SMTPUTF8 || c.utf8Header
	// The key is noted before the message, so that of two requests at once one is refused.
	// If there is a crash between them the repeat finds its own hash and is stored: a known
	// hash never says that the message is there, only the callback knows repeats.
	request := hashOf(env, content)
	if first, err := s.keys.take(meta["tenant"]+"\x00"+meta[metaKey], request); err != nil {
		return nil, err
	} else if first != request {
		return nil, errOtherRequest
	}
	return s.sched.Submit(ctx, env, meta, bytes.NewReader(content))
}

// hashOf tells requests apart.
func hashOf(env spool.Envelope, content []byte) string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q", mailbox(env.Sender))
	for _, rcpt := range env.Recipients {
		fmt.Fprintf(hash, "%q", mailbox(rcpt.Address))
	}
	hash.Write(content)
	return fmt.Sprintf("%x", hash.Sum(nil))
}

// refuse says why nothing was stored.
func (s *server) refuse(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	var bad contentError
	switch {
	case errors.As(err, &bad):
		fail(w, http.StatusBadRequest, bad.Error())
	case errors.Is(err, errOtherRequest):
		fail(w, http.StatusUnprocessableEntity, err.Error())
	case errors.As(err, &tooLarge), errors.Is(err, spool.ErrTooLarge):
		fail(w, http.StatusRequestEntityTooLarge, "the message is too large")
	default: // a full disk, too much at once, a stop, a client that went away: all of it passes
		w.Header().Set("Retry-After", "30")
		fail(w, http.StatusServiceUnavailable, "try again later")
	}
}

func fail(w http.ResponseWriter, code int, text string) { http.Error(w, text, code) }

func (s *server) tenant(r *http.Request) (string, bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "", false
	}
	tenant, ok := s.tokens[token]
	return tenant, ok
}

// envelope reads who sends to whom. The header of the message says nothing about it.
func envelope(r *http.Request) (env spool.Envelope, err error) {
	q := r.URL.Query()
	if from := q.Get("from"); from != "" {
		a, err := mail.ParseAddress(from)
		if err != nil {
			return env, errors.New("from is no address")
		}
		env.Sender = path(a)
	}
	for _, to := range q["to"] {
		a, err := mail.ParseAddress(to)
		if err != nil {
			return env, errors.New("to is no address")
		}
		env.Recipients = append(env.Recipients, spool.Recipient{Address: path(a)})
	}
	if len(env.Recipients) == 0 || len(env.Recipients) > maxRcpts {
		return env, errors.New("between 1 and 100 parameters to are needed")
	}
	env.SMTPUTF8 = !isASCII(env.Sender) || slices.ContainsFunc(env.Recipients, func(r spool.Recipient) bool { return !isASCII(r.Address) })
	return env, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= 0x80 })
}

// path is an address as it stands in an envelope: with the quotes that its local part
// needs, lest it become a parameter of the command that passes it on.
func path(a *mail.Address) string {
	quoted := (&mail.Address{Address: a.Address}).String() // <local@domain>
	return quoted[1 : len(quoted)-1]
}

// status says where a message is. What is not there has ended: the records say how.
func (s *server) status(w http.ResponseWriter, r *http.Request) {
	tenant, ok := s.tenant(r)
	if !ok {
		fail(w, http.StatusUnauthorized, "a bearer token is needed")
		return
	}
	var id spool.ID
	if err := id.UnmarshalText([]byte(r.PathValue("id"))); err != nil {
		fail(w, http.StatusNotFound, "no such message")
		return
	}
	d, err := s.sched.Admin().Inspect(r.Context(), id)
	if errors.Is(err, spool.ErrNotFound) || err == nil && d.Meta["tenant"] != tenant {
		fail(w, http.StatusNotFound, "no such message, or it has ended")
		return
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(struct {
		ID        spool.ID  `json:"id"`
		Queue     string    `json:"queue"`
		State     string    `json:"state"`
		Attempts  int       `json:"attempts"`
		Due       time.Time `json:"due"`
		LastError string    `json:"last_error,omitempty"`
	}{d.ID, d.Queue, d.State.String(), d.Attempts, d.Due, d.LastError})
}
