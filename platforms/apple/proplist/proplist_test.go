package proplist

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

func wrap(inner string) []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">` + inner + `</plist>
`)
}

func TestRoundTrip(t *testing.T) {
	tree := Dict{
		"string": "a < b & \"c\"\nd", "empty": "", "true": true, "false": false,
		"data": []byte{0, 1, 2}, "date": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"real": 1.5, "array": []any{"x", Dict{"Key Type": "RSA"}}, "dict": Dict{},
		"negative": int64(-3), "positive": uint64(7),
	}
	first, err := Encode(tree)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeDict(first, MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, tree) {
		t.Fatalf("got %#v\nwant %#v", got, tree)
	}
	second, err := Encode(got)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("second encoding differs: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	cases := map[string][]byte{
		"nothing":           nil,
		"text":              []byte("hello"),
		"binary":            []byte("bplist00\x00\x01"),
		"too large":         bytes.Repeat([]byte(" "), MaxSize+1),
		"too deep":          wrap(strings.Repeat("<array>", maxDepth+1) + strings.Repeat("</array>", maxDepth+1)),
		"deep plist":        []byte(strings.Repeat("<plist>", 100000)),
		"trailing text":     append(wrap("<dict/>"), "garbage"...),
		"trailing element":  append(wrap("<dict/>"), "<dict/>"...),
		"entity":            []byte(`<!DOCTYPE plist [<!ENTITY a "b">]><plist><string>&a;</string></plist>`),
		"hidden end":        wrap("<dict>" + strings.Repeat(`<key>a</key><array a="/>">`, 1000)),
		"truncated":         wrap("<dict>")[:60],
		"unclosed":          []byte("<plist><dict><key>a</key>"),
		"unknown element":   wrap("<set/>"),
		"bad base64":        wrap("<data>!</data>"),
		"value without key": wrap("<dict><string>a</string></dict>"),
	}
	for name, data := range cases {
		if v, err := Decode(data); err == nil {
			t.Errorf("%s: got %v, want an error", name, v)
		}
	}
}

func TestDecodeErrorsQuoteNoValue(t *testing.T) {
	var target struct{ Token []byte }
	err := DecodeInto(wrap("<dict><key>Token</key><string>hunter2</string></dict>"), MaxSize, &target)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("got %v", err)
	}
}

func TestEncodeRefusesNil(t *testing.T) {
	for _, tree := range []any{nil, Dict{"a": nil}, []any{nil}, Dict{"a": []any{Dict{"b": nil}}}} {
		if _, err := Encode(tree); err == nil {
			t.Errorf("%v: want an error", tree)
		}
	}
}

func TestGetters(t *testing.T) {
	d := Dict{"i": uint64(3), "big": uint64(1 << 63), "n": int64(-1), "s": "x", "b": true, "d": []byte{1}, "a": []any{1}, "m": Dict{"x": 1}}
	if Int(d, "i") != 3 || Int(d, "big") != 0 || Int(d, "n") != -1 || Int(d, "s") != 0 {
		t.Error("Int")
	}
	if String(d, "s") != "x" || String(d, "i") != "" || !Bool(d, "b") || Bool(d, "s") {
		t.Error("String or Bool")
	}
	if len(Bytes(d, "d")) != 1 || len(Array(d, "a")) != 1 || Sub(d, "m") == nil || !Time(d, "s").IsZero() {
		t.Error("Bytes, Array, Sub or Time")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(wrap("<dict><key>a</key><string>b</string><key>c</key><array><true/><real>1.5</real></array></dict>"))
	f.Add(wrap("<data>AAEC</data>"))
	f.Add([]byte("<plist><plist/></plist>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Decode(data)
		if err != nil {
			return
		}
		if _, err := Encode(v); err != nil {
			t.Fatalf("decoded, but does not encode: %v", err)
		}
	})
}
