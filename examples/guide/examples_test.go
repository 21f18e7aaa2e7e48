package guide

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// needsTest are packages that only tests can call: docs/testing.md shows what they do.
var needsTest = map[string]bool{"deferred/deferredtest": true, "spool/spooltest": true}

// elsewhere are methods that callers know by an interface: of the standard library, of
// Prometheus, and of package spool, whose own examples show them.
var elsewhere = []string{
	"Error", "Unwrap", "String", "MarshalJSON",
	"Describe", "Collect",
	"Create", "Open", "Apply", "Claim", "Scan", "Queues", "Changed", "Started", "Ended", "Close",
}

// TestEntryPoints: every exported function and method of the packages is named or used
// by an example of its own package.
func TestEntryPoints(t *testing.T) {
	dirs := sourceDirs(t)
	if len(dirs) < 8 {
		t.Fatalf("found packages %q only", dirs)
	}
	for _, dir := range dirs {
		if needsTest[dir] {
			continue
		}
		api, shown := entryPoints(t, filepath.Join(root, dir))
		for _, name := range api {
			typ, method, ok := strings.Cut(name, ".")
			if !ok {
				method = typ
			}
			if !shown[name] && !shown[method+"()"] && !(ok && slices.Contains(elsewhere, method)) {
				t.Errorf("package %s: no example is named after %s or uses it", dir, name)
			}
		}
	}
}

// sourceDirs are the folders of the packages that others may import.
func sourceDirs(t *testing.T) []string {
	var dirs []string
	for _, top := range []string{"deferred", "smtpserver", "queue", "spool"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			if d.Name() == "internal" || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			rel, err := filepath.Rel(root, p)
			if files, _ := filepath.Glob(filepath.Join(p, "*.go")); len(files) > 0 {
				dirs = append(dirs, filepath.ToSlash(rel))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// entryPoints returns what a package exports, as F or T.F, and what its examples show: what
// they are named after, and as F() what they use.
func entryPoints(t *testing.T, dir string) (api []string, shown map[string]bool) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	shown = make(map[string]bool)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), path.Base(file), source, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			switch {
			case !ok || f.Name.Name == "main":
			case strings.HasSuffix(file, "_test.go"):
				show(shown, fn)
			case fn.Name.IsExported() && receiver(fn) != "-":
				api = append(api, strings.TrimPrefix(receiver(fn)+"."+fn.Name.Name, "."))
			}
		}
	}
	return api, shown
}

// receiver is the type of which fn is a method: empty for a function, "-" for a type that
// is not exported.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	t := fn.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if name, ok := t.(*ast.Ident); ok && name.IsExported() {
		return name.Name
	}
	return "-"
}

// show adds what an example is named after and uses.
func show(shown map[string]bool, fn *ast.FuncDecl) {
	name, ok := strings.CutPrefix(fn.Name.Name, "Example")
	if !ok {
		return
	}
	parts := strings.Split(name, "_")
	shown[parts[0]] = true
	if len(parts) > 1 {
		shown[parts[0]+"."+parts[1]] = true
	}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			shown[sel.Sel.Name+"()"] = true
		}
		return true
	})
}
