package xmltree

import (
	"strings"
	"testing"
)

var some = Bounds{Size: 4 << 10, Depth: 8, Elements: 50}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	e := Parent("a", Text("p:b", ` x<&>" `).With("p:k", `"<`), Text("c", "")).With("xmlns", "urn:x", "xmlns:p", "urn:y")
	n, err := Read(e.Render(), some)
	if err != nil {
		t.Fatal(err)
	}
	if n.Text("b") != `x<&>"` || n.Get("b").Attr("k") != `"<` || n.Text("c") != "" || n.Get("d") != nil || n.Only() != nil {
		t.Errorf("%s", e.Render())
	}
}

func TestBase64(t *testing.T) {
	for text, want := range map[string]string{" aGVs\r\n bG8= ": "hello", "aGVsbG8": "hello", "": "", "a": "-", "aGVs*": "-"} {
		n, err := Read(Parent("a", Text("b", text)).Render(), some)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := n.Bytes("b"); string(got) != want && (err == nil || want != "-") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ document, says string }{
		"nothing":         {"", "no root element"},
		"text":            {"x", "outside"},
		"text after":      {"<a/>x", "outside"},
		"two roots":       {"<a/><b/>", "second root"},
		"not well-formed": {"<a>\n<secret", "line 2"},
		"entity":          {"<a>&secret;</a>", "not well-formed"},
		"document type":   {`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`, "document types"},
		"instruction":     {`<?php secret ?><a/>`, "processing instructions"},
		"other encoding":  {`<?xml version="1.0" encoding="UTF-16"?><a/>`, "not well-formed"},
		"deep":            {strings.Repeat("<a>", some.Depth+1), "nested deeper than 8"},
		"many":            {"<a>" + strings.Repeat("<b/>", some.Elements), "more than 50 elements"},
		"long":            {strings.Repeat("x", some.Size+1), "larger than 4 KiB"},
	} {
		_, err := Read([]byte(tc.document), some)
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q", name, err, tc.says)
		}
	}
}

// TestNothingOfNothing: a missing element has nothing in it.
func TestNothingOfNothing(t *testing.T) {
	var n *Node
	if n.Get("a") != nil || n.All("a") != nil || n.Only() != nil || n.Text("a") != "" || n.Attr("a") != "" {
		t.Error("something")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`<s:Envelope xmlns:s="x"><s:Body><a b="c">d</a></s:Body></s:Envelope>`))
	f.Add([]byte(`<?xml version="1.0"?><a><b>MAA=</b></a>`))
	f.Fuzz(func(t *testing.T, document []byte) {
		n, err := Read(document, some)
		if err != nil {
			return
		}
		_, _ = n.Bytes("b")
		if len(n.All("a")) > some.Elements {
			t.Error("more elements than may be")
		}
	})
}
