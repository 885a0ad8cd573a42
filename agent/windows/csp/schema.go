package csp

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// Formats of nodes (windows.md section 2.4).
const (
	formatNode = "node"
	formatChr  = "chr"
	formatInt  = "int"
	formatBool = "bool"
	formatBin  = "bin"
	formatB64  = "b64"
	formatNull = "null"
)

// provider is one CSP.
type provider struct {
	root   []string // Vendor, MSFT, DMClient
	scopes string   // which of ./User and ./Device have it: "U", "D", "UD"; empty: neither, as with ./DevInfo
	rows   []row
	// creates says that a Replace makes what is not there.
	creates bool
	// guard refuses places that the table would allow.
	guard func(*PC, place) bool
}

// row is what Microsoft's DDF says of a node.
type row struct {
	path     string // below the root; "*" is a name that the server chooses
	access   string // A Add, D Delete, G Get, R Replace, X Exec
	format   string
	initial  string // the default; empty: none
	scopes   string // narrower than the provider's; empty: the same
	atomic   bool   // writes belong into an Atomic
	secret   bool   // never read back
	segments []string
	// check is what a value must be beyond its format.
	check func(string) bool
	// read is the value of a node that is not stored but known; ok is false when there is no such node.
	read func(*PC, place) (value string, ok bool)
	// names are the known names in the place of the last "*".
	names func(*PC, place) []string
	// write replaces storing.
	write func(*transaction, place, string) outcome
	// gone follows a Delete.
	gone func(*PC, place)
	exec func(*transaction, place, string) outcome
}

// providers are the CSPs that the simulated PC has.
func providers() []*provider {
	out := []*provider{
		clientCertificates(), rootCertificates(), certificateStore(), dmClient(), policy(), remoteWipe(),
		devInfo(), devDetail(), deviceStatus(),
	}
	for _, c := range out {
		for n := range c.rows {
			c.rows[n].segments = strings.Split(c.rows[n].path, "/")
		}
	}
	return out
}

func microsoft(name string) []string { return []string{"Vendor", "MSFT", name} }

// covers reports whether the names are the row's or those of a node above it.
func (r row) covers(scope string, names []string) bool {
	if len(names) > len(r.segments) || r.scopes != "" && !strings.Contains(r.scopes, scope[:1]) {
		return false
	}
	for n, name := range names {
		if s := r.segments[n]; s != "*" && !strings.EqualFold(s, name) {
			return false
		}
	}
	return true
}

// spell writes the names as the schema does where it has them.
func (r row) spell(names []string) []string {
	out := slices.Clone(names)
	for n, s := range r.segments {
		if s != "*" {
			out[n] = s
		}
	}
	return out
}

// takes reports whether a value of the given format can be written to the row. A format that is absent is chr.
func (r row) takes(format, value string) bool {
	if format == "" {
		format = formatChr
	}
	return r.fits(format) && r.wellFormed(value) && (r.check == nil || r.check(value))
}

// fits compares formats. Microsoft's own samples send binary nodes as chr (windows.md section 3.1).
func (r row) fits(format string) bool {
	switch r.format {
	case formatBin:
		return format == formatBin || format == formatB64 || format == formatChr
	case formatB64:
		return format == formatB64 || format == formatBin
	}
	return format == r.format
}

func (r row) wellFormed(value string) bool {
	switch r.format {
	case formatInt:
		_, err := strconv.ParseInt(value, 10, 32)
		return err == nil
	case formatBool:
		return value == "true" || value == "false"
	case formatBin, formatB64:
		_, ok := oneLine(value)
		return ok
	}
	return true
}

// oneLine decodes base64 that has neither line breaks nor blanks in it: Windows refuses those (windows.md section 5, 5).
func oneLine(value string) ([]byte, bool) {
	if value == "" || strings.ContainsAny(value, "\r\n\t ") {
		return nil, false
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	return raw, err == nil
}

// between checks an int.
func between(least, most int) func(string) bool {
	return func(value string) bool {
		n, err := strconv.Atoi(value)
		return err == nil && n >= least && n <= most
	}
}

// oneOf checks a word.
func oneOf(words ...string) func(string) bool {
	return func(value string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, value) })
	}
}

func notEmpty(value string) bool { return strings.TrimSpace(value) != "" }
