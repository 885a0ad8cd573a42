package profiles

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"
)

// Bounds of the JSON form: what one request may hold, and how deep it may nest (the format itself needs 7 levels).
const (
	maxJSON  = 32 << 20
	maxDepth = 32
)

// newSpec makes the empty spec of a kind, nil for an unknown kind.
func newSpec(k Kind) Spec {
	switch k {
	case KindUser:
		return &User{}
	case KindAssignment:
		return &Assignment{}
	case KindTrustedCertificate:
		return &TrustedCertificate{}
	case KindPKCSCertificate:
		return &PKCSCertificate{}
	case KindPKCSImportedCertificate:
		return &PKCSImportedCertificate{}
	case KindSCEPCertificate:
		return &SCEPCertificate{}
	case KindEmail:
		return &Email{}
	case KindCustom:
		return &Custom{}
	}
	return nil
}

// Kinds are all kinds of the file format, in the order of the documentation.
func Kinds() []Kind {
	return []Kind{KindUser, KindAssignment, KindTrustedCertificate, KindPKCSCertificate, KindPKCSImportedCertificate,
		KindSCEPCertificate, KindEmail, KindCustom}
}

// DecodeObjects reads one object or an array of objects in JSON form, strictly, and reports all faults at once.
// Objects whose kind is known are returned even if they have faults, so that Check can report the rest.
func DecodeObjects(data []byte) ([]Object, Faults) {
	root, err := parseTree(data)
	if err != nil {
		return nil, Faults{{Message: err.Error()}}
	}
	documents := []*node{root}
	if root.kind == arrayNode {
		documents = root.items
	}
	var objects []Object
	var faults Faults
	for i, document := range documents {
		o, f := decodeTree(document, i, nil)
		faults = append(faults, f...)
		if o.Spec != nil {
			objects = append(objects, o)
		}
	}
	return objects, faults
}

// DecodeObject reads one object in JSON form, the index-th of its input, whose fields stand in a text file at source
// (nil for none). The object's Spec is nil if its kind is not known.
func DecodeObject(data []byte, index int, source *Source) (Object, Faults) {
	root, err := parseTree(data)
	if err != nil {
		r := newReport(&Object{Source: source}, index)
		r.fault("", "%s", err)
		return Object{Source: source}, r.faults
	}
	return decodeTree(root, index, source)
}

// decodeObject serves json.Unmarshal.
func decodeObject(data []byte, o *Object) error {
	decoded, faults := DecodeObject(data, 0, nil)
	if len(faults) > 0 {
		return faults
	}
	*o = decoded
	return nil
}

// decodeTree turns a tree into an object.
func decodeTree(n *node, index int, source *Source) (Object, Faults) {
	o := Object{Source: source}
	if n.kind != objectNode {
		r := newReport(&o, index)
		r.fault("", "must be an object with apiVersion, kind, name and spec")
		return o, r.faults
	}
	text := func(name string) string { s, _ := n.field(name).text(); return s }
	o.APIVersion, o.Kind, o.Name = text("apiVersion"), Kind(text("kind")), text("name")
	d := decoder{newReport(&o, index), map[string]bool{}}
	d.envelope(n, &o)
	for field := range d.failed {
		if source != nil {
			source.Report(field)
		}
	}
	return o, d.faults
}

// decoder walks a tree along the Go types and reports every place where they differ.
type decoder struct {
	*report
	failed map[string]bool // fields with a fault
}

// fault records a fault and the field that has it.
func (d decoder) fault(field, format string, args ...any) {
	d.failed[field] = true
	d.report.fault(field, format, args...)
}

// envelope decodes what all kinds share and hands the spec on.
func (d decoder) envelope(n *node, o *Object) {
	var envelope struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Name       string   `json:"name"`
		Spec       *rawSpec `json:"spec"`
	}
	d.object(n, reflect.ValueOf(&envelope).Elem(), "")
	if o.APIVersion != APIVersion {
		d.fault("apiVersion", "must be %s", APIVersion)
	}
	o.Spec = newSpec(o.Kind)
	if o.Spec == nil {
		d.failed["kind"] = true
		oneOf(d.report, "kind", o.Kind, Kinds()...)
		return
	}
	spec := n.field("spec")
	if spec == nil {
		d.fault("spec", "is missing")
		return
	}
	d.object(spec, reflect.ValueOf(o.Spec).Elem(), "spec")
}

// rawSpec marks the field that envelope decodes by itself.
type rawSpec struct{}

func (d decoder) value(n *node, v reflect.Value, path string) {
	switch {
	case v.Kind() == reflect.Pointer:
		d.pointer(n, v, path)
	case v.Type() == reflect.TypeFor[Duration]():
		d.duration(n, v, path)
	case v.Kind() == reflect.Struct:
		d.object(n, v, path)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		d.bytes(n, v, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d decoder) pointer(n *node, v reflect.Value, path string) {
	if n.isNull() || v.Type().Elem() == reflect.TypeFor[rawSpec]() {
		return
	}
	v.Set(reflect.New(v.Type().Elem()))
	d.value(n, v.Elem(), path)
}

func (d decoder) duration(n *node, v reflect.Value, path string) {
	s, ok := n.text()
	if !ok {
		d.fault(path, "must be text as in \"365d\"")
		return
	}
	parsed, err := ParseDuration(s)
	if err != nil {
		d.fault(path, "%s", err)
	}
	v.SetInt(int64(parsed))
}

func (d decoder) bytes(n *node, v reflect.Value, path string) {
	s, ok := n.text()
	content, err := base64.StdEncoding.DecodeString(s)
	if !ok && !n.isNull() || err != nil {
		d.fault(path, "must be base64")
		return
	}
	v.SetBytes(content)
}

func (d decoder) list(n *node, v reflect.Value, path string) {
	if n.isNull() {
		return
	}
	if n.kind != arrayNode {
		d.fault(path, "must be a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d decoder) scalar(n *node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := n.text(); ok {
			v.SetString(s)
			return
		}
		d.fault(path, "must be text (put it in quotes)")
	case reflect.Bool:
		if b, ok := n.scalar.(bool); ok {
			v.SetBool(b)
			return
		}
		d.fault(path, "must be true or false")
	default:
		number, _ := n.scalar.(json.Number)
		if i, err := number.Int64(); err == nil {
			v.SetInt(i)
			return
		}
		d.fault(path, "must be a whole number")
	}
}

// object decodes the fields of a struct; a field that the struct lacks or that comes twice is a fault.
func (d decoder) object(n *node, v reflect.Value, path string) {
	if n.kind != objectNode {
		d.fault(path, "must be an object with fields")
		return
	}
	known := map[string]reflect.Value{}
	structFields(v, known)
	seen := map[string]bool{}
	for _, f := range n.fields {
		at := strings.TrimPrefix(path+"."+f.name, ".")
		target, ok := known[f.name]
		switch {
		case !ok:
			d.fault(at, "%s", unknownField(f.name, known))
		case seen[f.name]:
			d.fault(at, "is given twice")
		default:
			d.value(f.value, target, at)
		}
		seen[f.name] = true
	}
}

// structFields maps the JSON names of a struct, embedded structs included, to its fields.
func structFields(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			structFields(v.Field(i), into)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		into[name] = v.Field(i)
	}
}

func unknownField(name string, known map[string]reflect.Value) string {
	names := make([]string, 0, len(known))
	for k := range known {
		if strings.EqualFold(k, name) {
			return fmt.Sprintf("unknown field; write it %s", k)
		}
		names = append(names, k)
	}
	sort.Strings(names)
	return "unknown field; known here: " + strings.Join(names, ", ")
}

// node is a JSON value that keeps the order of fields and duplicates, which encoding/json's own maps lose.
type node struct {
	kind   nodeKind
	fields []nodeField
	items  []*node
	scalar any // string, json.Number, bool or nil
}

type nodeField struct {
	name  string
	value *node
}

type nodeKind int

const (
	scalarNode nodeKind = iota
	objectNode
	arrayNode
)

func (n *node) field(name string) *node {
	for _, f := range n.fields {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

func (n *node) text() (string, bool) {
	if n == nil {
		return "", false
	}
	s, ok := n.scalar.(string)
	return s, ok
}

func (n *node) isNull() bool { return n.kind == scalarNode && n.scalar == nil }

// parseTree reads exactly one JSON value.
func parseTree(data []byte) (*node, error) {
	if len(data) > maxJSON {
		return nil, fmt.Errorf("JSON of %d bytes is larger than %d", len(data), maxJSON)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	root, err := parseNode(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading JSON: more text follows the first value")
	}
	return root, nil
}

func parseNode(dec *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return parseFields(dec, depth)
	case json.Delim('['):
		return parseItems(dec, depth)
	}
	return &node{scalar: token}, nil
}

func parseFields(dec *json.Decoder, depth int) (*node, error) {
	n := &node{kind: objectNode}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		value, err := parseNode(dec, depth+1)
		if err != nil {
			return nil, err
		}
		n.fields = append(n.fields, nodeField{name.(string), value})
	}
	_, err := dec.Token()
	return n, err
}

func parseItems(dec *json.Decoder, depth int) (*node, error) {
	n := &node{kind: arrayNode}
	for dec.More() {
		value, err := parseNode(dec, depth+1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, value)
	}
	_, err := dec.Token()
	return n, err
}
