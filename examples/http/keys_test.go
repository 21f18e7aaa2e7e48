package main

import (
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func TestForget(t *testing.T) {
	k, err := openKeys(filepath.Join(t.TempDir(), "keys"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	take := func(id string) string {
		first, err := k.take("key", id)
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	if take("1") != "1" || take("2") != "1" {
		t.Error("the first one does not keep the key")
	}
	if err := k.forget(time.Now().Add(-time.Hour)); err != nil || take("2") != "1" {
		t.Error("it was forgotten too early")
	}
	if err := k.forget(time.Now().Add(time.Hour)); err != nil || take("3") != "3" {
		t.Error("it was not forgotten")
	}
}

// TestForgetsInTime: a program that runs for long does not keep all keys for ever.
func TestForgetsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, err := openKeys(filepath.Join(t.TempDir(), "keys"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		take := func(id string) string {
			first, err := k.take("key", id)
			if err != nil {
				t.Fatal(err)
			}
			return first
		}
		take("1")
		time.Sleep(keepKeys)
		synctest.Wait()
		if first := take("2"); first != "1" {
			t.Errorf("%s has the key, want 1: it was forgotten too early", first)
		}
		time.Sleep(forgetEvery)
		synctest.Wait()
		if first := take("2"); first != "2" {
			t.Errorf("%s has the key, want 2: it was not forgotten", first)
		}
		if err := k.close(); err != nil { // and nothing runs any more: the bubble would not end
			t.Error(err)
		}
	})
}

// TestOtherRequest: a key stands for one request. What was never stored under it can
// still be, after any failure.
func TestOtherRequest(t *testing.T) {
	sp := spool.NewMemory()
	k, err := openKeys(filepath.Join(t.TempDir(), "keys"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	post := func(query, text string) int {
		sched, err := queue.NewScheduler(sp, (&policy{}).inject, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("POST", "/messages"+query, strings.NewReader(text))
		req.Header.Set("Authorization", "Bearer secret")
		req.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		newServer(sched, k, map[string]string{"secret": "acme"}).ServeHTTP(w, req)
		return w.Code
	}
	sp.FailSync()
	if code := post(good, "Subject: x\n\nx\n"); code != 503 {
		t.Fatalf("the disk fails: %d, want 503", code)
	}
	sp = sp.Reopen()
	for _, tt := range []struct {
		name, query, text string
		want              int
	}{
		{"another content", good, "Subject: x\n\ny\n", 422},
		{"another recipient", "?from=a@example.org&to=c@example.com", "Subject: x\n\nx\n", 422},
		{"another sender", "?from=c@example.org&to=b@example.com", "Subject: x\n\nx\n", 422},
		{"another mailbox", "?from=a@example.org&to=B@example.com", "Subject: x\n\nx\n", 422},
		{"the same", good, "Subject: x\n\nx\n", 202},
		{"the same with other spellings", "?from=a@EXAMPLE.org&to=b@Example.com", "Subject: x\r\n\r\nx\r\n", 202},
	} {
		if code := post(tt.query, tt.text); code != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, code, tt.want)
		}
	}
}
