package store

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field ties a column to the place of its value in a struct.
type field struct {
	column string
	value  any // pointer
}

// row is one struct as columns: the single place where a type and its table meet.
type row []field

// table names a table and maps its rows to a type.
type table[T any] struct {
	name string
	row  func(*T) row
}

func (tab table[T]) columns() []string {
	var v T
	var names []string
	for _, f := range tab.row(&v) {
		names = append(names, f.column)
	}
	return names
}

func (tab table[T]) selects() string {
	return "SELECT " + strings.Join(tab.columns(), ", ") + " FROM " + tab.name
}

// insert gives the statement that stores a new row.
func (tab table[T]) insert() string {
	columns := tab.columns()
	places := make([]string, len(columns))
	for i := range columns {
		places[i] = "$" + strconv.Itoa(i+1)
	}
	return "INSERT INTO " + tab.name + " (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Join(places, ", ") + ")"
}

// upsert gives the statement that stores a row whole, new or not; keep are columns that an update leaves alone.
func (tab table[T]) upsert(keys []string, keep ...string) string {
	skip := map[string]bool{}
	for _, c := range append(keep, keys...) {
		skip[c] = true
	}
	var sets []string
	for _, c := range tab.columns() {
		if !skip[c] {
			sets = append(sets, c+" = excluded."+c)
		}
	}
	return tab.insert() + " ON CONFLICT (" + strings.Join(keys, ", ") + ") DO UPDATE SET " + strings.Join(sets, ", ")
}

// put executes insert or upsert for one value.
func put[T any](t *tx, tab table[T], statement string, v T) error {
	return t.do(statement, tab.row(&v).values()...)
}

func (r row) values() []any {
	all := make([]any, len(r))
	for i, f := range r {
		all[i] = reflect.ValueOf(f.value).Elem().Interface()
	}
	return all
}

func (r row) dests() []any {
	all := make([]any, len(r))
	for i, f := range r {
		all[i] = dest(f.value)
	}
	return all
}

// bind turns Go values into what both drivers understand: times into microseconds, named strings into strings,
// structs, lists and maps into JSON.
func bind(args []any) []any {
	bound := make([]any, len(args))
	for i, a := range args {
		bound[i] = bindOne(a)
	}
	return bound
}

func bindOne(a any) any {
	switch v := a.(type) {
	case nil, bool, int, int64, []byte:
		return v
	case time.Time:
		return micros(v)
	case string:
		return clean(v)
	case json.RawMessage:
		return string(v)
	}
	if v := reflect.ValueOf(a); v.Kind() == reflect.String {
		return clean(v.String())
	}
	text, err := json.Marshal(a)
	if err != nil {
		return failedValue{err}
	}
	return string(text)
}

// failedValue makes the statement fail with the reason why a value could not be encoded.
type failedValue struct{ err error }

// clean keeps text that devices send acceptable to PostgreSQL, which refuses NUL and broken UTF-8.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// dest wraps the pointers that database/sql cannot fill by itself.
func dest(p any) any {
	switch v := p.(type) {
	case *string, *bool, *int, *int64:
		return p
	case *[]byte:
		return bytesDest{v}
	case *time.Time:
		return timeDest{v}
	case *json.RawMessage:
		return rawDest{v}
	}
	if reflect.TypeOf(p).Elem().Kind() == reflect.String {
		return p
	}
	return jsonDest{p}
}

type timeDest struct{ to *time.Time }

// Scan implements sql.Scanner.
func (d timeDest) Scan(src any) error {
	*d.to = time.Time{}
	n, ok := src.(int64)
	if !ok && src != nil {
		return fmt.Errorf("column of a time holds %T", src)
	}
	if n != 0 {
		*d.to = time.UnixMicro(n).UTC()
	}
	return nil
}

type bytesDest struct{ to *[]byte }

// Scan implements sql.Scanner; nothing is nil, so that what was read compares equal to what was written.
func (d bytesDest) Scan(src any) error {
	*d.to = nil
	b, err := scanBytes(src)
	if len(b) > 0 {
		*d.to = append([]byte(nil), b...)
	}
	return err
}

type rawDest struct{ to *json.RawMessage }

// Scan implements sql.Scanner.
func (d rawDest) Scan(src any) error {
	b, err := scanBytes(src)
	*d.to = append(json.RawMessage(nil), b...)
	return err
}

type jsonDest struct{ to any }

// Scan implements sql.Scanner.
func (d jsonDest) Scan(src any) error {
	b, err := scanBytes(src)
	if err != nil || len(b) == 0 {
		return err
	}
	if err := json.Unmarshal(b, d.to); err != nil {
		return fmt.Errorf("reading stored JSON: %w", err)
	}
	return nil
}

func scanBytes(src any) ([]byte, error) {
	switch v := src.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("column of bytes or text holds %T", src)
}
