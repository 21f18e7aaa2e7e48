package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// TestPrometheus has a real Prometheus scrape the endpoint and answer every query of
// the dashboard, and promtool check what is exposed.
func TestPrometheus(t *testing.T) {
	if !*long {
		t.Log("short form: the other tests; with -long a real Prometheus scrapes, and promtool checks")
		return
	}
	for _, tool := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install Debian's package prometheus", err)
		}
	}
	sched := start(t, openSpool(t))
	submit(t, sched, "a@example.com", "b@example.net", "ok@example.net", "bounce@example.com", "retry@example.com", "hold@example.com")
	endpoint := httptest.NewServer(promhttp.HandlerFor(register(t, sched, &Options{Classes: tenants}), promhttp.HandlerOpts{}))
	defer endpoint.Close()

	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(get(t, endpoint.URL))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	server := startPrometheus(t, strings.TrimPrefix(endpoint.URL, "http://"))
	for _, query := range []string{"deferredqueue_messages_received_total == 6", "deferredqueue_messages_rebound_total == 3", "deferredqueue_messages_delivered_total == 1", "deferredqueue_messages_fail_total == 1"} {
		await(t, func() bool { return queryValue(t, server, query) != "" })
	}
	for query, want := range map[string]string{
		"deferredqueue_messages_rebound_total":                      "3",
		"deferredqueue_messages_delivered_total":                    "1",
		"deferredqueue_messages_fail_total":                         "1",
		`sum(deferredqueue_held_messages)`:                          "1",
		`deferredqueue_until_inject_seconds_count`:                  "6",
		`count(deferredqueue_until_inject_seconds_bucket) > bool 9`: "1",
	} {
		if got := queryValue(t, server, query); got != want {
			t.Errorf("%s is %q, want %s", query, got, want)
		}
	}
	for _, expr := range dashboardExpressions(t) {
		expr = strings.NewReplacer("$instance", ".*", "$__rate_interval", "1m").Replace(expr)
		if status, answer := query(t, server, expr); status != http.StatusOK {
			t.Errorf("%s: %s", expr, answer)
		}
	}
}

// startPrometheus runs a Prometheus that scrapes target, and returns its address.
func startPrometheus(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 200ms}\nscrape_configs:\n- job_name: host\n  static_configs: [{targets: [%q]}]\n", target)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	await(t, func() bool {
		resp, err := http.Get("http://" + addr + "/-/ready")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return "http://" + addr
}

// await waits until something another process does has happened.
func await(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 30 seconds")
		}
		<-time.After(100 * time.Millisecond)
	}
}

func get(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func query(t *testing.T, server, expr string) (status int, answer []byte) {
	t.Helper()
	resp, err := http.Get(server + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// queryValue is the value of the only series that an expression yields; empty if there
// is none.
func queryValue(t *testing.T, server, expr string) string {
	t.Helper()
	_, answer := query(t, server, expr)
	var a struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal(answer, &a); err != nil || len(a.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(a.Data.Result[0].Value[1])
}
