package main

import (
	"maps"
	"slices"
	"strings"
)

// detail writes an audit entry's detail in one line, keys sorted.
func detail(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, " ")
}
