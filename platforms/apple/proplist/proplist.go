// Package proplist is the one door to property lists: bounded decoding of XML property lists from foreign programs and
// deterministic encoding (keys sorted, the same tree gives the same bytes). Only the XML form is read: the library's
// reader of binary property lists does not stand up to hostile input.
package proplist

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/micromdm/plist"
)

// MaxSize bounds what servers read from devices and people. Apple names no limit; vendors take one megabyte.
const MaxSize = 1 << 20

// MaxProfileSize bounds what devices read: a profile with a long history of keys, and the command that carries it.
const MaxProfileSize = 4 << 20

// maxDepth bounds nesting. Real messages stay under ten levels.
const maxDepth = 64

// Dict is a decoded dictionary. Its values are string, bool, int64, uint64, float64, []byte, time.Time, []any and Dict's
// underlying map[string]any.
type Dict = map[string]any

// Decode reads one XML property list of any root type, of at most MaxSize.
func Decode(data []byte) (any, error) { return DecodeLimit(data, MaxSize) }

// DecodeLimit reads one XML property list of any root type, of at most that many bytes.
func DecodeLimit(data []byte, limit int) (any, error) {
	var v any
	if err := DecodeInto(data, limit, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// DecodeDict reads one XML property list whose root is a dictionary, of at most that many bytes.
func DecodeDict(data []byte, limit int) (Dict, error) {
	v, err := DecodeLimit(data, limit)
	if err != nil {
		return nil, err
	}
	d, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("property list: the root is not a dictionary")
	}
	return d, nil
}

// DecodeInto reads one XML property list of at most that many bytes into the value that v points to. Unknown keys are
// accepted. An error never quotes a value, since it may be a secret.
func DecodeInto(data []byte, limit int, v any) error {
	if err := scan(data, limit); err != nil {
		return fmt.Errorf("property list: %w", err)
	}
	err := plist.NewXMLDecoder(bytes.NewReader(data)).Decode(v)
	var mismatch plist.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("property list: a value has another type than %s", mismatch.Type)
	}
	if err != nil {
		return errors.New("property list: not well-formed")
	}
	return nil
}

// Encode writes an XML property list. The tree may hold the types that Decode gives, other integers, and structs
// with plist tags; a nil inside it is an error.
func Encode(v any) ([]byte, error) {
	if err := checkTree(v, 0); err != nil {
		return nil, err
	}
	out, err := plist.MarshalIndent(v, "\t")
	if err != nil {
		return nil, fmt.Errorf("encode property list: %w", err)
	}
	return out, nil
}

// checkTree refuses what makes the library panic: a nil interface anywhere in a tree of maps and slices.
func checkTree(v any, depth int) error {
	if depth > maxDepth {
		return errors.New("encode property list: nested too deeply")
	}
	switch t := v.(type) {
	case nil:
		return errors.New("encode property list: nil value")
	case map[string]any:
		for key, inner := range t {
			if err := checkTree(inner, depth+1); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	case []any:
		for i, inner := range t {
			if err := checkTree(inner, depth+1); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
	}
	return nil
}

// String gives the string under key, empty if it is absent or of another type.
func String(d Dict, key string) string {
	s, _ := d[key].(string)
	return s
}

// Bool gives the boolean under key, false if it is absent or of another type.
func Bool(d Dict, key string) bool {
	b, _ := d[key].(bool)
	return b
}

// Bytes gives the data under key, nil if it is absent or of another type.
func Bytes(d Dict, key string) []byte {
	b, _ := d[key].([]byte)
	return b
}

// Int gives the integer under key, zero if it is absent, of another type or beyond 63 bits.
func Int(d Dict, key string) int {
	switch n := d[key].(type) {
	case int64:
		return int(n)
	case uint64:
		if n <= 1<<63-1 {
			return int(n)
		}
	case int:
		return n
	}
	return 0
}

// Time gives the date under key, zero if it is absent or of another type.
func Time(d Dict, key string) time.Time {
	t, _ := d[key].(time.Time)
	return t
}

// Array gives the array under key, nil if it is absent or of another type.
func Array(d Dict, key string) []any {
	a, _ := d[key].([]any)
	return a
}

// Sub gives the dictionary under key, nil if it is absent or of another type.
func Sub(d Dict, key string) Dict {
	s, _ := d[key].(map[string]any)
	return s
}
