package apple

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// checkMarkup refuses what the property list's reader passes over, and what therefore nobody would look at: a key that
// stands twice in a dictionary, of which the reader keeps one value and a device perhaps the other, and text between the
// elements.
func checkMarkup(plain []byte) error {
	m := markup{}
	d := xml.NewDecoder(bytes.NewReader(plain))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errors.New("the profile is not well-formed XML")
		}
		if err := m.take(token); err != nil {
			return err
		}
	}
}

// markup follows the elements.
type markup struct {
	open []string
	keys []map[string]bool // of the dictionaries that are open
	text strings.Builder   // of the innermost element
}

func (m *markup) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		if err := m.blank(); err != nil {
			return err
		}
		m.open = append(m.open, t.Name.Local)
		if t.Name.Local == "dict" {
			m.keys = append(m.keys, map[string]bool{})
		}
	case xml.EndElement:
		return m.end(t.Name.Local)
	case xml.CharData:
		m.text.Write(t)
	}
	return nil
}

func (m *markup) end(name string) error {
	text := m.text.String()
	switch name {
	case "plist", "dict", "array", "true", "false":
		if err := m.blank(); err != nil {
			return err
		}
	}
	m.text.Reset()
	m.open = m.open[:len(m.open)-1] // the decoder matches ends with beginnings
	switch {
	case name == "dict":
		m.keys = m.keys[:len(m.keys)-1]
	case name == "key" && len(m.keys) > 0:
		seen := m.keys[len(m.keys)-1]
		if seen[text] {
			return fmt.Errorf("the key %.64q stands twice in one dictionary", text)
		}
		seen[text] = true
	}
	return nil
}

// blank refuses text where only elements may be.
func (m *markup) blank() error {
	if strings.TrimSpace(m.text.String()) != "" {
		return errors.New("there is text between the elements of the property list")
	}
	m.text.Reset()
	return nil
}
