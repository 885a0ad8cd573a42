package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Settings reads a file with one YAML or JSON mapping as JSON. A field that ends in File names a file beside it or below,
// whose content takes its place under the name without File: secrets and certificates need not stand in the file itself.
func Settings(name string) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, cause(err))
	}
	defer root.Close()
	data, err := readCapped(root.FS(), filepath.Base(name), maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out, err := settings(root.FS(), data, path.Ext(name) == ".json")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

func settings(fsys fs.FS, data []byte, isJSON bool) ([]byte, error) {
	documents, faults := parse(data, isJSON)
	if len(faults) > 0 {
		var s *syntaxError
		if errors.As(faults[0], &s) && s.at.Line > 0 {
			return nil, fmt.Errorf("line %d: %w", s.at.Line, faults[0])
		}
		return nil, faults[0]
	}
	if len(documents) != 1 {
		return nil, fmt.Errorf("it holds %d documents: one is right", len(documents))
	}
	if name := twice(json.NewDecoder(bytes.NewReader(documents[0].json))); name != "" {
		return nil, fmt.Errorf("%s is given twice", name)
	}
	var fields map[string]any
	if err := json.Unmarshal(documents[0].json, &fields); err != nil {
		return nil, errors.New("it is no mapping of names to values")
	}
	if err := takeFiles(fsys, fields, ""); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// twice names a field that a mapping has two times, of which encoding/json would keep the last. The text is JSON.
func twice(d *json.Decoder) string {
	type level struct {
		names map[string]bool // nil: a list
		key   bool            // the next token is a name
	}
	var levels []level
	for {
		t, err := d.Token()
		if err != nil {
			return ""
		}
		top := len(levels) - 1
		if name, ok := t.(string); ok && top >= 0 && levels[top].key {
			if levels[top].names[name] {
				return name
			}
			levels[top].names[name], levels[top].key = true, false
			continue
		}
		switch t {
		case json.Delim('{'):
			levels = append(levels, level{names: map[string]bool{}, key: true})
			continue
		case json.Delim('['):
			levels = append(levels, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:top]
		}
		if top = len(levels) - 1; top >= 0 {
			levels[top].key = levels[top].names != nil
		}
	}
}

// takeFiles puts the content of named files into the fields, at every depth.
func takeFiles(fsys fs.FS, fields map[string]any, where string) error {
	for name, value := range fields {
		if nested, ok := value.(map[string]any); ok {
			if err := takeFiles(fsys, nested, where+name+"."); err != nil {
				return err
			}
			continue
		}
		short, isFile := strings.CutSuffix(name, "File")
		if !isFile || short == "" {
			continue
		}
		file, ok := value.(string)
		if !ok {
			return fmt.Errorf("%s%s: it names a file", where, name)
		}
		if _, both := fields[short]; both {
			return fmt.Errorf("%s%s: it must not stand beside %s", where, name, short)
		}
		content, err := readSide(fsys, ".", file)
		if err != nil {
			return fmt.Errorf("%s%s: %q %w", where, name, file, err)
		}
		fields[short] = strings.TrimRight(string(content), "\r\n")
		delete(fields, name)
	}
	return nil
}
