package main

import (
	"bytes"
	"io"
	"testing"
)

// TestTablesDoNotCommandTheTerminal: names in them come from devices.
func TestTablesDoNotCommandTheTerminal(t *testing.T) {
	var out bytes.Buffer
	p := &program{env: Env{Stdout: &out}}
	name := "Al\x1b]0;x\x07ice\u009b31m\none\ttwo"
	err := p.print("table", nil, func(w io.Writer) {
		table(w, []string{"NAME", "EMPTY", "LAST"}, [][]string{{name, "", "é"}})
	})
	if err != nil || bytes.ContainsAny(out.Bytes(), "\x1b\x07\u009b") || bytes.Count(out.Bytes(), []byte("\n")) != 2 {
		t.Errorf("%v: %q", err, out.String())
	}
}
