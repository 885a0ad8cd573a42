package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/waxseal/waxseal/profiles"
)

// Nesting bounds. The format needs 7 levels; the YAML parser calls itself for each level, and every level of block
// style takes at least one column.
const (
	maxFlowDepth   = 32
	maxBlockColumn = 256
	// maxKeys bounds the fields of one mapping, for which the parser's time is quadratic.
	maxKeys = 1000
	// maxTokens bounds one document; the parser takes several microseconds for each token.
	maxTokens = 200_000
)

// document is one YAML document as JSON, with the place of each field.
type document struct {
	json   []byte
	start  profiles.Position
	fields map[string]profiles.Position
}

// syntaxError is text that cannot be read as the YAML we accept.
type syntaxError struct {
	at      profiles.Position
	message string
}

func (e *syntaxError) Error() string { return e.message }

func syntaxAt(t *token.Token, format string, args ...any) error {
	return &syntaxError{position(t), fmt.Sprintf(format, args...)}
}

func position(t *token.Token) profiles.Position {
	if t == nil || t.Position == nil {
		return profiles.Position{Line: 1, Column: 1}
	}
	return profiles.Position{Line: t.Position.Line, Column: t.Position.Column}
}

// parse reads all documents of a YAML or JSON file, and gives those that can be read beside what is wrong with others.
func parse(data []byte, isJSON bool) (documents []document, faults []error) {
	if isJSON {
		plain, err := plainJSON(data)
		if err != nil {
			return nil, []error{err}
		}
		data = plain
	}
	texts := split(data)
	if len(texts) > maxDocuments {
		return nil, []error{fmt.Errorf("has more than %d documents", maxDocuments)}
	}
	for _, text := range texts {
		found, err := parseDocument(text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		documents = append(documents, found...)
	}
	return documents, faults
}

// text is one document of a file; line is the number of lines before it.
type text struct {
	content []byte
	line    int
}

// split cuts a file at the lines that begin with --- or with ..., which end a document wherever they stand (YAML 1.2
// section 9.1). The YAML library drops what follows an empty document, so it gets one document at a time.
func split(data []byte) []text {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	texts := []text{{}}
	number := 0
	for line := range bytes.Lines(data) {
		if isMarker(line) {
			texts = append(texts, text{line: number})
			// What stands behind the marker belongs to the document and keeps its column.
			line = append([]byte("   "), line[3:]...)
		}
		last := &texts[len(texts)-1]
		last.content = append(last.content, line...)
		number++
	}
	return texts
}

func isMarker(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("---")) && !bytes.HasPrefix(line, []byte("...")) {
		return false
	}
	return len(line) == 3 || bytes.IndexByte([]byte(" \t\r\n"), line[3]) >= 0
}

// parseDocument gives no document for a text of comments and blanks, and several for a list.
func parseDocument(t text) ([]document, error) {
	file, err := parseYAML(t.content)
	var documents []document
	for i := 0; err == nil && file != nil && i < len(file.Docs); i++ {
		var found []document
		found, err = convert(file.Docs[i].Body)
		documents = append(documents, found...)
	}
	var s *syntaxError
	if errors.As(err, &s) {
		s.at.Line += t.line
	}
	for i := range documents {
		documents[i].moveDown(t.line)
	}
	return documents, err
}

// moveDown adds the lines before the document to its places.
func (d *document) moveDown(lines int) {
	d.start.Line += lines
	for field, at := range d.fields {
		at.Line += lines
		d.fields[field] = at
	}
}

// plainJSON checks JSON with its own parser and blanks its tabs, which YAML does not take as indentation. Inside the
// strings of valid JSON there is no raw tab.
func plainJSON(data []byte) ([]byte, error) {
	var v any
	err := json.Unmarshal(data, &v)
	var s *json.SyntaxError
	if errors.As(err, &s) {
		before := data[:min(int(s.Offset), len(data))]
		at := profiles.Position{Line: bytes.Count(before, []byte("\n")) + 1, Column: len(before) - bytes.LastIndexByte(before, '\n') - 1}
		return nil, &syntaxError{at, "reading JSON: " + err.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	return bytes.ReplaceAll(data, []byte("\t"), []byte(" ")), nil
}

// parseYAML parses after the tokens have been found bounded. A panic of the parser on foreign input is an error here.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if recover() != nil {
			file, err = nil, errors.New("cannot be read as YAML")
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if err := scan(tokens); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(tokens, func(t *token.Token) bool { return t.Type != token.CommentType }) {
		return nil, nil
	}
	// Keys that come twice are found by the decoder, which reports them beside the other faults.
	file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, readable(err)
	}
	return file, nil
}

// readable takes message and place out of the library's error, which otherwise prints the text around it.
func readable(err error) error {
	if e, ok := errors.AsType[yaml.Error](err); ok {
		return syntaxAt(e.GetToken(), "reading YAML: %s", e.GetMessage())
	}
	return fmt.Errorf("reading YAML: %w", err)
}

// scan refuses what is not part of the format and what the parser would take too long or nest too deep for.
func scan(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return syntaxAt(tokens[maxTokens], "the document has more than %d parts; cut it into several documents with ---", maxTokens)
	}
	s := scanner{keys: map[int]int{}}
	for _, t := range tokens {
		if err := s.token(t); err != nil {
			return err
		}
	}
	return nil
}

// scanner follows the nesting of a token stream.
type scanner struct {
	depth int // of flow style
	// keys counts the keys of the mappings that are open: by column in block style, by negative depth in flow style.
	keys map[int]int
}

func (s *scanner) token(t *token.Token) error {
	switch t.Type {
	case token.AnchorType, token.AliasType, token.MergeKeyType:
		return syntaxAt(t, "anchors, aliases and merge keys are not supported; write the value out")
	case token.TagType, token.DirectiveType:
		return syntaxAt(t, "tags and directives are not supported; take it out")
	case token.SequenceStartType, token.MappingStartType:
		s.depth++
		delete(s.keys, -s.depth)
	case token.SequenceEndType, token.MappingEndType:
		s.depth--
	case token.SequenceEntryType, token.MappingKeyType:
		return s.entry(t)
	case token.MappingValueType:
		return s.key(t)
	}
	if s.depth > maxFlowDepth {
		return syntaxAt(t, "is nested deeper than %d levels", maxFlowDepth)
	}
	return nil
}

// entry begins an element of a block sequence, which ends the mappings inside the element before.
func (s *scanner) entry(t *token.Token) error {
	if t.Position.Column > maxBlockColumn {
		return syntaxAt(t, "is indented further than %d columns", maxBlockColumn)
	}
	maps.DeleteFunc(s.keys, func(column, _ int) bool { return column > t.Position.Column })
	return nil
}

// key bounds the indentation of block mappings and the number of keys in any.
func (s *scanner) key(colon *token.Token) error {
	at := -s.depth
	if key := colon.Prev; s.depth == 0 && key != nil {
		if at = key.Position.Column; at > maxBlockColumn {
			return syntaxAt(key, "is indented further than %d columns", maxBlockColumn)
		}
	}
	if s.keys[at]++; s.keys[at] > maxKeys {
		return syntaxAt(colon, "has more than %d fields", maxKeys)
	}
	return nil
}

// convert turns the body of a YAML document into JSON documents: none for an empty one, several for a list of objects.
func convert(body ast.Node) ([]document, error) {
	switch n := body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	case *ast.SequenceNode:
		var documents []document
		for _, value := range n.Values {
			d, err := convertOne(value)
			if err != nil {
				return nil, err
			}
			documents = append(documents, d)
		}
		return documents, nil
	}
	d, err := convertOne(body)
	return []document{d}, err
}

func convertOne(n ast.Node) (document, error) {
	c := converter{fields: map[string]profiles.Position{}}
	err := c.node(n, "")
	start := profiles.Position{Line: 1, Column: 1}
	if n != nil {
		start = position(firstToken(n))
	}
	return document{c.out.Bytes(), start, c.fields}, err
}

// firstToken is where a node begins; the token of a block mapping is its first colon.
func firstToken(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// converter writes the JSON form of a node and notes where each field stands.
type converter struct {
	out    bytes.Buffer
	fields map[string]profiles.Position
}

func (c *converter) node(n ast.Node, path string) error {
	switch n := n.(type) {
	case *ast.MappingNode:
		return c.mapping(n.Values, path)
	case *ast.MappingValueNode:
		return c.mapping([]*ast.MappingValueNode{n}, path)
	case *ast.SequenceNode:
		return c.sequence(n, path)
	case *ast.LiteralNode:
		return c.value(n.Value.Value)
	case *ast.StringNode:
		return c.value(n.Value)
	case *ast.BoolNode:
		return c.value(n.Value)
	case *ast.IntegerNode:
		return c.value(n.Value)
	case *ast.FloatNode:
		return c.value(n.Value)
	case *ast.NullNode, nil:
		return c.value(nil)
	}
	return syntaxAt(n.GetToken(), "%s is not supported here", n.Type())
}

func (c *converter) value(v any) error {
	encoded, err := json.Marshal(v)
	c.out.Write(encoded)
	return err
}

func (c *converter) mapping(values []*ast.MappingValueNode, path string) error {
	c.out.WriteByte('{')
	for i, v := range values {
		name, err := keyName(v.Key)
		if err != nil {
			return err
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		if i > 0 {
			c.out.WriteByte(',')
		}
		if _, twice := c.fields[at]; !twice {
			c.fields[at] = position(v.Key.GetToken())
		}
		if err := c.value(name); err != nil {
			return err
		}
		c.out.WriteByte(':')
		if err := c.node(v.Value, at); err != nil {
			return err
		}
	}
	c.out.WriteByte('}')
	return nil
}

func (c *converter) sequence(n *ast.SequenceNode, path string) error {
	c.out.WriteByte('[')
	for i, v := range n.Values {
		if i > 0 {
			c.out.WriteByte(',')
		}
		at := path + "[" + strconv.Itoa(i) + "]"
		if v != nil {
			c.fields[at] = position(firstToken(v))
		}
		if err := c.node(v, at); err != nil {
			return err
		}
	}
	c.out.WriteByte(']')
	return nil
}

// keyName is the text of a key; keys that are no text have the text that was written.
func keyName(key ast.MapKeyNode) (string, error) {
	switch k := key.(type) {
	case *ast.StringNode:
		return k.Value, nil
	case *ast.IntegerNode, *ast.BoolNode, *ast.NullNode, *ast.FloatNode:
		return k.GetToken().Value, nil
	}
	return "", syntaxAt(key.GetToken(), "a key must be plain text")
}
