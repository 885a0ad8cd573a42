package mde

import "github.com/waxseal/waxseal/internal/xmltree"

// nilled says that a value is not there, where the schema wants the element all the same.
func nilled(name string) xmltree.Element { return xmltree.Text(name, "").With("xsi:nil", "true") }
