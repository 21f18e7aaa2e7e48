// Package guide keeps the pages of docs true: the Go code of each page is
// compiled here, in the file named like the page, and what it claims is tested.
package guide

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// The Go code of docs/page.md is code of page_test.go, line for line.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	checked := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(text), "```go\n")[1:]
		if len(blocks) == 0 {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(page), ".md") + "_test.go"
		source, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%s has Go code: %v", page, err)
			continue
		}
		for _, block := range blocks {
			code, _, ok := strings.Cut(block, "```")
			if !ok || !strings.Contains(string(source), code) {
				t.Errorf("this code of %s is not in %s:\n%s", page, name, code)
			}
			if n := strings.Count(code, "\n"); n > 30 {
				t.Errorf("%d lines are too many to read at a glance:\n%s", n, code)
			}
			checked++
		}
	}
	if checked == 0 {
		t.Error("no page has Go code")
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\pL\pN _-]`)
)

// Every relative link of every page leads to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	links := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			checkLink(t, path, m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links == 0 {
		t.Error("no links were found")
	}
}

func checkLink(t *testing.T, page, target string) {
	file, anchor, _ := strings.Cut(target, "#")
	if file == "" {
		file = page
	} else {
		file = filepath.Join(filepath.Dir(page), file)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("%s: %v", page, err)
		return
	}
	if anchor == "" || filepath.Ext(file) != ".md" {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	for _, h := range heading.FindAllStringSubmatch(string(text), -1) {
		slug := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")
		if slug == anchor {
			return
		}
	}
	t.Errorf("%s: %s has no heading %q", page, file, anchor)
}

var example = regexp.MustCompile(`(?m)^func (Example\w*)\(`)

// docs/examples.md names the examples of every package, and no others.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/examples.md")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]int) // by file
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if n := len(example.FindAll(source, -1)); n > 0 {
			rel, _ := filepath.Rel(root, path)
			want["../"+filepath.ToSlash(rel)] += n
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, m := range link.FindAllStringSubmatch(string(text), -1) {
		if strings.HasSuffix(m[1], "_test.go") {
			got[m[1]]++
		}
	}
	for file, n := range want {
		if got[file] != n {
			t.Errorf("examples.md names %d of the %d examples of %s", got[file], n, file)
		}
		delete(got, file)
	}
	for file := range got {
		t.Errorf("examples.md names %s, which has no examples", file)
	}
}

var exampleRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$")

// README.md lists what there are examples of, by package or by type, and nothing else.
func TestREADMEExamples(t *testing.T) {
	text, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Examples\n")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := make(map[string]bool) // whether it was found
	for _, row := range exampleRow.FindAllStringSubmatch(section, -1) {
		for name := range strings.SplitSeq(row[2], ", ") {
			listed[row[1]+"."+name] = false
		}
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		dir, _ := filepath.Rel(root, filepath.Dir(path))
		for _, m := range example.FindAllStringSubmatch(string(source), -1) {
			of := filepath.ToSlash(dir) + "." + exampleOf(m[1])
			if _, ok := listed[of]; !ok {
				t.Errorf("README.md does not list the example of %s", of)
			}
			listed[of] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for of, found := range listed {
		if !found {
			t.Errorf("README.md lists an example of %s, which there is not", of)
		}
	}
}

// exampleOf is what an example is of: "package", F, T or T.M.
func exampleOf(function string) string {
	parts := strings.Split(strings.TrimPrefix(function, "Example"), "_")
	if last := parts[len(parts)-1]; last != "" && strings.ToLower(last[:1]) == last[:1] { // one of several
		parts = parts[:len(parts)-1]
	}
	if name := strings.Join(parts, "."); name != "" {
		return name
	}
	return "package"
}
