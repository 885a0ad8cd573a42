package companion

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// schemaFile describes the protocol for people who write another app.
const schemaFile = "../../../docs/protocols/android.schema.json"

// definition is what the schema says of one message or field.
type definition struct {
	Description string                `json:"description"`
	Type        any                   `json:"type"`
	Required    []string              `json:"required"`
	Properties  map[string]definition `json:"properties"`
	Items       *definition           `json:"items"`
	Ref         string                `json:"$ref"`
	Format      string                `json:"format"`
	Encoding    string                `json:"contentEncoding"`
	Enum        []string              `json:"enum"`
}

func schema(t testing.TB) map[string]definition {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(schemaFile))
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Defs map[string]definition `json:"$defs"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s.Defs
}

// described are all types of the protocol.
func described() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	var add func(reflect.Type)
	add = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice:
			add(t.Elem())
		case reflect.Struct:
			if t == reflect.TypeFor[time.Time]() || out[t.Name()] != nil {
				return
			}
			out[t.Name()] = t
			for i := range t.NumField() {
				add(t.Field(i).Type)
			}
		}
	}
	for _, s := range samples() {
		add(reflect.TypeOf(s.value))
	}
	return out
}

// TestSchemaIsTrue: the schema has each type, each field, and the same form and need of each.
func TestSchemaIsTrue(t *testing.T) {
	defs, types := schema(t), described()
	if len(defs) != len(types)+1 || defs["Events"].Items == nil || defs["Events"].Items.Ref != "#/$defs/Event" {
		t.Errorf("%d definitions, %d types and the list of events", len(defs), len(types))
	}
	for name, typ := range types {
		def := defs[name]
		if def.Description == "" || def.Type != "object" || len(def.Properties) != typ.NumField() {
			t.Errorf("%s: %d properties, %d fields: %q", name, len(def.Properties), typ.NumField(), def.Description)
		}
		for i := range typ.NumField() {
			tag, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			p, ok := def.Properties[tag]
			if !ok || p.Description == "" {
				t.Errorf("%s.%s is not described", name, tag)
				continue
			}
			if optional := options == "omitempty" || options == "omitzero"; slices.Contains(def.Required, tag) == optional {
				t.Errorf("%s.%s: required is %v", name, tag, optional)
			}
			if want := formOf(typ.Field(i).Type); !p.is(want) {
				t.Errorf("%s.%s is %+v, want %s", name, tag, p, want)
			}
		}
	}
}

// formOf is how a field of that type stands in the schema.
func formOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[[]byte]():
		return "base64"
	case t == reflect.TypeFor[time.Time]():
		return "date-time"
	case t.Kind() == reflect.Pointer:
		return formOf(t.Elem())
	case t.Kind() == reflect.Struct:
		return "#/$defs/" + t.Name()
	case t.Kind() == reflect.Slice:
		return "array of " + formOf(t.Elem())
	case t.Kind() == reflect.Map:
		return "object"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.String:
		return "string"
	}
	return "integer"
}

func (d definition) is(form string) bool {
	if item, ok := strings.CutPrefix(form, "array of "); ok {
		return d.isType("array") && d.Items != nil && d.Items.is(item)
	}
	switch form {
	case "base64":
		return d.isType("string") && d.Encoding == form
	case "date-time":
		return d.isType("string") && d.Format == form
	case "string":
		return d.isType(form) && d.Encoding == "" && d.Format == ""
	}
	return d.Ref == form || d.isType(form)
}

// isType also takes a type that may be null, the empty value of Go.
func (d definition) isType(name string) bool {
	list, ok := d.Type.([]any)
	return d.Type == name || ok && len(list) == 2 && list[0] == name && list[1] == "null"
}

func TestSchemaKnowsTheWords(t *testing.T) {
	defs := schema(t)
	for field, prefix := range map[string]string{"StatusReport.state": "State", "Item.kind": "Kind", "Item.op": "Op", "Device.management_mode": "Mode"} {
		typ, name, _ := strings.Cut(field, ".")
		got := defs[typ].Properties[name].Enum
		var want []string
		for _, value := range constants(t, "messages.go", prefix) {
			want = append(want, value)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is one of %v, want %v", field, got, want)
		}
	}
	for _, code := range constants(t, "problem.go", "Code") {
		if !strings.Contains(defs["Problem"].Properties["code"].Description, code) {
			t.Errorf("the schema does not know %s", code)
		}
	}
}

// validate is the program that others wrote: each golden message is what the schema says, and none without one of the
// fields that it must have.
const validate = `
import json, pathlib, sys
import jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
for path in map(pathlib.Path, sys.argv[2:]):
    v = jsonschema.Draft202012Validator({**schema, "$ref": "#/$defs/" + path.stem})
    message = json.load(open(path))
    v.validate(message)
    for entry in message if isinstance(message, list) else [message]:
        for name in (schema["$defs"]["Event"] if isinstance(message, list) else schema["$defs"][path.stem])["required"]:
            bare = {k: x for k, x in entry.items() if k != name}
            if v.is_valid([bare] if isinstance(message, list) else bare):
                sys.exit(path.stem + " is valid without " + name)
`

// python is one that has jsonschema: the first in PATH, or the system's.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import jsonschema").Run() == nil {
			return name
		}
	}
	if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
		t.Fatal("python3 with jsonschema is missing")
	}
	t.Skip("python3 with jsonschema is missing")
	return ""
}

func TestGoldenMessagesFitTheSchema(t *testing.T) {
	program := python(t)
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.json"))
	if err != nil || len(files) != len(samples()) {
		t.Fatalf("%d golden messages: %v", len(files), err)
	}
	args := append([]string{"-c", validate, filepath.FromSlash(schemaFile)}, files...)
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
