// Package points reads the source of a package that talks to Postgres and lists
// the points at which a process can be made to die in it: see package failpoint.
package points

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/amberhost/amber/internal/failpoint"
)

// methods take a statement as an argument.
var methods = []string{"Query", "QueryRow", "Exec", "Queue", "fenced", "then", "parkLost"}

// List returns the points of the package in dir, in the order in which they stand
// there. problems are statements without a name, and names that two have.
func List(dir string) (points, problems []string, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, nil, fmt.Errorf("points of %s: %w", dir, err)
	}
	s := scan{fset: token.NewFileSet(), texts: map[string]string{}, seen: map[string]token.Pos{}}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(s.fset, path, nil, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("points of %s: %w", dir, err)
		}
		files = append(files, file)
		ast.Inspect(file, s.constants)
	}
	for _, file := range files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				s.function(f)
			}
		}
	}
	return s.points, s.problems, nil
}

type scan struct {
	fset             *token.FileSet
	texts            map[string]string // constants that hold statements, and where they stand
	seen             map[string]token.Pos
	points, problems []string
}

// constants notes constants of the package.
func (s *scan) constants(n ast.Node) bool {
	if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 && len(v.Names) == 1 {
		if text, ok := s.text(v.Values[0], nil); ok {
			s.texts[v.Names[0].Name] = text
		}
	}
	return true
}

// text is how an expression that is a text begins.
func (s *scan) text(e ast.Expr, local map[string][]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		return s.text(e.X, local)
	case *ast.Ident:
		if t := local[e.Name]; len(t) > 0 {
			return t[0], true
		}
		text, ok := s.texts[e.Name]
		return text, ok
	}
	return "", false
}

func (s *scan) function(f *ast.FuncDecl) {
	parameters := map[string]bool{}
	for _, field := range f.Type.Params.List {
		for _, name := range field.Names {
			parameters[name.Name] = true
		}
	}
	local := map[string][]string{} // texts that a variable may have
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && len(a.Rhs) == 1 {
			if id, ok := a.Lhs[0].(*ast.Ident); ok {
				if text, ok := s.text(a.Rhs[0], nil); ok {
					local[id.Name] = append(local[id.Name], text)
				}
			}
		}
		return true
	})
	ast.Inspect(f.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch name := method.Sel.Name; {
		case (name == "tx" || name == "atOnce") && len(call.Args) == 3:
			s.act(call.Args[1], parameters)
		case name == "parkLost" && len(call.Args) == 4:
			s.act(call.Args[1], parameters)
			s.statement(call.Args[2], local, parameters, false)
		case slices.Contains(methods, name):
			alone := false // outside a transaction
			if on, ok := method.X.(*ast.SelectorExpr); ok {
				alone = on.Sel.Name == "pool"
			}
			if at := slices.IndexFunc(call.Args, s.isStatement(local, parameters)); at >= 0 {
				s.statement(call.Args[at], local, parameters, alone)
			} else if len(call.Args) > 1 { // a batch's callbacks take a function alone
				s.problem(call.Pos(), "a statement that cannot be followed")
			}
		}
		return true
	})
}

// isStatement says whether an argument is, or begins with, a text.
func (s *scan) isStatement(local map[string][]string, parameters map[string]bool) func(ast.Expr) bool {
	return func(e ast.Expr) bool {
		_, ok := s.text(e, local)
		for b, is := e.(*ast.BinaryExpr); is; b, is = e.(*ast.BinaryExpr) {
			e = b.X
		}
		id, is := e.(*ast.Ident)
		return ok || is && id.Name == "sql" && parameters["sql"]
	}
}

func (s *scan) statement(e ast.Expr, local map[string][]string, parameters map[string]bool, alone bool) {
	first := e
	for b, is := first.(*ast.BinaryExpr); is; b, is = first.(*ast.BinaryExpr) {
		first = b.X
	}
	id, isName := first.(*ast.Ident)
	if isName && parameters[id.Name] {
		return // whoever gives it is looked at
	}
	var texts []string
	if isName {
		texts = local[id.Name]
	}
	if len(texts) == 0 {
		text, _ := s.text(e, local)
		texts = []string{text}
	}
	for _, text := range texts {
		name := failpoint.NameOf(text)
		if name == "" {
			s.problem(e.Pos(), "a statement without a name: begin it with /* NAME */")
			continue
		}
		s.add("statement "+name, e.Pos(), isName)
		if alone {
			s.add("done "+name, e.Pos(), isName)
		}
	}
}

func (s *scan) act(e ast.Expr, parameters map[string]bool) {
	if id, ok := e.(*ast.Ident); ok && parameters[id.Name] {
		return
	}
	act, ok := s.text(e, nil)
	if !ok {
		s.problem(e.Pos(), "a transaction without a name")
		return
	}
	s.add("commit "+act, e.Pos(), false)
	s.add("committed "+act, e.Pos(), false)
}

// add adds a point; a statement that has a name of its own in the program may
// stand in several places.
func (s *scan) add(point string, at token.Pos, shared bool) {
	if before, ok := s.seen[point]; ok {
		if !shared {
			s.problem(at, fmt.Sprintf("%q is also at %s", point, s.fset.Position(before)))
		}
		return
	}
	s.seen[point] = at
	s.points = append(s.points, point)
}

func (s *scan) problem(at token.Pos, what string) {
	s.problems = append(s.problems, fmt.Sprintf("%s: %s", s.fset.Position(at), what))
}
