package smtpserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// abuseServerEnv makes TestAbuseServer the server of another process.
const abuseServerEnv = "SMTPSERVER_TEST_ABUSE"

// An abuseConfig is what the server is started with.
type abuseConfig struct {
	Limits Limits
	TLS    bool // implicit
}

// An abuseStats is what the server costs at a moment.
type abuseStats struct {
	Heap       int64 // bytes of objects, garbage included
	Stack      int64 // bytes
	RSS        int64 // bytes
	Goroutines int64
	CPU        time.Duration // so far
}

// An abuseRequest asks for an abuseStats.
type abuseRequest struct {
	Collect bool // garbage first
}

// An abuseServer is a Listener in a process of its own, whose costs are nobody
// else's, or for the short form in this one.
type abuseServer struct {
	t    *testing.T
	cfg  abuseConfig
	addr string

	mu struct {
		sync.Mutex // one request at a time
		enc        *json.Encoder
		dec        *json.Decoder
	}
}

// startAbuseServer starts a server, which ends with the test. Goroutines that
// it leaves behind fail the test.
func startAbuseServer(t *testing.T, cfg abuseConfig) *abuseServer {
	t.Helper()
	requests, in := io.Pipe()
	out, answers := io.Pipe()
	if *long {
		startAbuseProcess(t, requests, answers, in)
	} else {
		served := make(chan error, 1)
		go func() { served <- serveAbuse(requests, answers) }()
		t.Cleanup(func() {
			in.Close()
			if err := <-served; err != nil {
				t.Errorf("the server: %v", err)
			}
		})
	}
	s := &abuseServer{t: t, cfg: cfg}
	s.mu.enc, s.mu.dec = json.NewEncoder(in), json.NewDecoder(out)
	if err := s.mu.enc.Encode(cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.mu.dec.Decode(&s.addr); err != nil {
		t.Fatal(err)
	}
	return s
}

// startAbuseProcess starts this program again. The pipe at its descriptor 3 is for
// answers: the testing package writes to its standard output.
func startAbuseProcess(t *testing.T, requests io.Reader, answers, in io.WriteCloser) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestAbuseServer$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), abuseServerEnv+"=1")
	cmd.Stdin, cmd.Stderr, cmd.ExtraFiles = requests, os.Stderr, []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(answers, r)
		answers.Close()
	}()
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
		<-copied
		r.Close()
	})
}

// stats asks the server what it costs.
func (s *abuseServer) stats(collect bool) abuseStats {
	s.t.Helper()
	st, err := s.ask(collect)
	if err != nil {
		s.t.Fatalf("the server does not answer: %v", err)
	}
	return st
}

func (s *abuseServer) ask(collect bool) (st abuseStats, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mu.enc.Encode(abuseRequest{Collect: collect}); err != nil {
		return st, err
	}
	return st, s.mu.dec.Decode(&st)
}

// TestAbuseServer: a server can be started, asked and stopped, by way of which
// it may be the server of another process.
func TestAbuseServer(t *testing.T) {
	if os.Getenv(abuseServerEnv) != "" {
		answers := os.NewFile(3, "answers")
		if err := serveAbuse(os.Stdin, answers); err != nil {
			t.Fatal(err)
		}
		answers.Close()
		return
	}
	s := startAbuseServer(t, abuseConfig{})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	newClient(t, c).want("220")
	if st := s.stats(true); st.Heap <= 0 || st.Stack <= 0 || st.Goroutines <= 0 {
		t.Errorf("stats %+v", st)
	}
}

// serveAbuse runs a Listener and answers requests until in ends.
func serveAbuse(in io.Reader, out io.Writer) (err error) {
	enc, dec := json.NewEncoder(out), json.NewDecoder(in)
	var cfg abuseConfig
	if err := dec.Decode(&cfg); err != nil {
		return err
	}
	sp := spool.NewMemory()
	defer func() { err = errors.Join(err, sp.Close()) }()
	logger := slog.New(slog.NewTextHandler(io.Discard, nil)) // what a line costs is part of the costs
	sched, err := queue.NewScheduler(sp, func(context.Context, *queue.Message) error { return nil },
		&queue.Options{Logger: logger, Record: func(context.Context, queue.Record) error { return nil }})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { sched.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	o, err := abuseOptions(cfg, logger)
	if err != nil {
		return err
	}
	l, err := NewListener(sched, o)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	wg.Go(func() { l.Serve(ln) })
	defer l.Close()
	if err := enc.Encode(ln.Addr().String()); err != nil {
		return err
	}
	return answerAbuse(enc, dec)
}

func abuseOptions(cfg abuseConfig, logger *slog.Logger) (*Options, error) {
	o := &Options{DeferredQueue: true, Hostname: "mx.example.com", Limits: cfg.Limits, Logger: logger}
	if !cfg.TLS {
		return o, nil
	}
	cert, _, err := selfSigned()
	o.TLS = TLS{Implicit: true, Config: &tls.Config{Certificates: []tls.Certificate{cert}}}
	return o, err
}

func answerAbuse(enc *json.Encoder, dec *json.Decoder) error {
	for {
		var req abuseRequest
		if err := dec.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if req.Collect {
			debug.FreeOSMemory() // collects first
		}
		st, err := measureAbuse()
		if err != nil {
			return err
		}
		if err := enc.Encode(st); err != nil {
			return err
		}
	}
}

// measureAbuse looks at this process.
func measureAbuse() (st abuseStats, err error) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(samples)
	for i, to := range []*int64{&st.Heap, &st.Stack, &st.Goroutines} {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return st, fmt.Errorf("no metric %s", samples[i].Name)
		}
		*to = int64(samples[i].Value.Uint64())
	}
	st.RSS, st.CPU, err = usage()
	return st, err
}
