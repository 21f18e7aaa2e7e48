package prometheus

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDashboard: it can be read, panels have IDs of their own, and every metric that it
// names exists, as every metric has a place in it.
func TestDashboard(t *testing.T) {
	expressions := dashboardExpressions(t)
	known := map[string]bool{}
	descs := newDescs(nil)
	for _, d := range descs.all {
		name := regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]
		known[name] = false
	}
	for _, expr := range expressions {
		for _, name := range regexp.MustCompile(`deferredqueue_\w+`).FindAllString(expr, -1) {
			name = strings.TrimSuffix(name, "_bucket")
			if _, ok := known[name]; !ok {
				t.Errorf("there is no metric %s", name)
			}
			known[name] = true
		}
	}
	for name, shown := range known {
		if !shown {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// TestDashboardSource: every panel, query and variable asks the data source that is chosen
// in the dashboard itself. Only then can it be imported and provisioned as it is: what
// __inputs declares is filled in by an import alone.
func TestDashboardSource(t *testing.T) {
	data, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dash map[string]any
	if err := json.Unmarshal(data, &dash); err != nil {
		t.Fatal(err)
	}
	for name := range dash {
		if strings.HasPrefix(name, "__") {
			t.Errorf("%s is for an import alone", name)
		}
	}
	variables, _ := dash["templating"].(map[string]any)["list"].([]any)
	if first, _ := variables[0].(map[string]any); first["name"] != "datasource" || first["type"] != "datasource" || first["query"] != "prometheus" {
		t.Errorf("the first variable is not the data source: %v", first)
	}
	sources := 0
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if name == "datasource" {
				sources++
				if v["uid"] != "${datasource}" || v["type"] != "prometheus" {
					t.Errorf("%v is another data source", v)
				}
			}
			for name, v := range v {
				walk(name, v)
			}
		case []any:
			for _, v := range v {
				walk("", v)
			}
		case string:
			if name == "datasource" {
				t.Errorf("%q is another data source", v)
			}
		}
	}
	walk("", dash)
	if want := 1 + 2*len(dash["panels"].([]any)); sources < want {
		t.Errorf("%d data sources are named, want %d at least", sources, want)
	}
}

// dashboardExpressions returns the queries of dashboard.json.
func dashboardExpressions(t *testing.T) (expressions []string) {
	t.Helper()
	data, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dash struct {
		Title         string
		SchemaVersion int
		Panels        []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&dash); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Error("something stands behind the dashboard")
	}
	if dash.Title == "" || dash.SchemaVersion < 36 || len(dash.Panels) == 0 {
		t.Errorf("%q, version %d, %d panels", dash.Title, dash.SchemaVersion, len(dash.Panels))
	}
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range dash.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" || p.Type == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q is odd", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := places[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies over %q", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	return expressions
}
