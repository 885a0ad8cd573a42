// Package admx reads policy definition files (ADMX) as a Windows PC does that ingests them over management, and turns the
// settings of their policies into registry values (windows.md section 3.10).
package admx

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Limits of a file; Office's largest is about a megabyte.
const (
	maxSize       = 2 << 20
	maxDepth      = 32
	maxElements   = 100_000
	maxCategories = 32 // in one chain
)

// ErrKey says that an ADMX would write where ingested files may not.
var ErrKey = errors.New("registry key is not open to ingested ADMX files")

// File is the part of an ADMX file (Microsoft's policy definition schema) that management reads.
type File struct {
	Target struct {
		Prefix string `xml:"prefix,attr"`
	} `xml:"policyNamespaces>target"`
	Categories []category        `xml:"categories>category"`
	Policies   []Policy          `xml:"policies>policy"`
	parents    map[string]string // the reference to the parent of each category
}

type category struct {
	Name   string `xml:"name,attr"`
	Parent ref    `xml:"parentCategory"`
}

type ref struct {
	Ref string `xml:"ref,attr"`
}

// Policy is one policy of a file.
type Policy struct {
	Name      string    `xml:"name,attr"`
	Class     string    `xml:"class,attr"` // User, Machine, Both
	Key       string    `xml:"key,attr"`
	ValueName string    `xml:"valueName,attr"`
	Category  ref       `xml:"parentCategory"`
	Enabled   *value    `xml:"enabledValue"`
	Disabled  *value    `xml:"disabledValue"`
	OnList    []item    `xml:"enabledList>item"`
	OffList   []item    `xml:"disabledList>item"`
	Decimals  []element `xml:"elements>decimal"`
	Booleans  []element `xml:"elements>boolean"`
	Texts     []element `xml:"elements>text"`
	Enums     []element `xml:"elements>enum"`
}

// item is a value that a policy writes beside its own, or a choice of an enum.
type item struct {
	Key       string `xml:"key,attr"`
	ValueName string `xml:"valueName,attr"`
	Value     value  `xml:"value"`
}

type element struct {
	ID        string  `xml:"id,attr"`
	Key       string  `xml:"key,attr"`
	ValueName string  `xml:"valueName,attr"`
	Required  bool    `xml:"required,attr"`
	Min       *uint32 `xml:"minValue,attr"`
	Max       *uint32 `xml:"maxValue,attr"`
	True      *value  `xml:"trueValue"`
	False     *value  `xml:"falseValue"`
	Items     []item  `xml:"item"`
	kind      string
}

type value struct {
	Decimal *struct {
		Value string `xml:"value,attr"`
	} `xml:"decimal"`
	String *string   `xml:"string"`
	Delete *struct{} `xml:"delete"`
}

// text is what goes into the registry; ok is false where the value is deleted.
func (v *value) text(usual string) (string, bool) {
	switch {
	case v == nil:
		return usual, true
	case v.Decimal != nil:
		return v.Decimal.Value, true
	case v.String != nil:
		return *v.String, true
	}
	return "", v.Delete == nil
}

// Parse reads a file and refuses one that could not be applied.
func Parse(text string) (*File, error) {
	if err := scanXML(text, maxSize, maxDepth, maxElements); err != nil {
		return nil, fmt.Errorf("reading the ADMX file: %w", err)
	}
	var file struct {
		XMLName xml.Name `xml:"policyDefinitions"`
		File
	}
	if err := xml.Unmarshal([]byte(text), &file); err != nil {
		return nil, fmt.Errorf("reading the ADMX file: %w", err)
	}
	if len(file.Policies) == 0 {
		return nil, errors.New("reading the ADMX file: it defines no policy")
	}
	file.parents = make(map[string]string, len(file.Categories))
	for _, c := range file.Categories {
		file.parents[c.Name] = c.Parent.Ref
	}
	for _, p := range file.Policies {
		if err := file.check(p); err != nil {
			return nil, fmt.Errorf("reading policy %q of the ADMX file: %w", p.Name, err)
		}
	}
	return &file.File, nil
}

// scanXML looks over foreign XML: one root, no document type, no entities of its own, and limits on everything.
func scanXML(text string, size, depth, elements int) error {
	if len(text) > size {
		return fmt.Errorf("longer than %d KiB", size>>10)
	}
	dec := xml.NewDecoder(bytes.NewReader([]byte(text)))
	level, roots := 0, 0
	for {
		token, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.Directive:
			return errors.New("it has a document type, which is not allowed")
		case xml.StartElement:
			if level == 0 {
				roots++
			}
			level, elements = level+1, elements-1
		case xml.EndElement:
			level--
		case xml.CharData:
			if level == 0 && len(bytes.Trim(token, " \t\r\n\ufeff")) > 0 {
				return errors.New("text stands outside the root element")
			}
		}
		if level > depth || elements < 0 {
			return errors.New("too many or too deeply nested elements")
		}
	}
	if roots != 1 {
		return fmt.Errorf("%d root elements", roots)
	}
	return nil
}

// check refuses a policy that is incomplete, or writes where it may not.
func (f *File) check(p Policy) error {
	if p.Name == "" || strings.ContainsAny(p.Name, "/~") {
		return errors.New("the name is missing or not usable in a LocURI")
	}
	if !slices.Contains([]string{"user", "machine", "both"}, strings.ToLower(p.Class)) {
		return fmt.Errorf("class %q is none of User, Machine, Both", p.Class)
	}
	if _, err := f.chain(p); err != nil {
		return err
	}
	keys := []string{p.Key}
	for _, e := range p.elements() {
		keys = append(keys, e.Key)
	}
	for _, i := range slices.Concat(p.OnList, p.OffList) {
		keys = append(keys, i.Key)
	}
	for n, key := range keys {
		if (key != "" || n == 0) && !openKey(key) {
			return fmt.Errorf("%q: %w", key, ErrKey)
		}
	}
	return nil
}

// elements are the inputs of a policy.
func (p Policy) elements() []element {
	var out []element
	add := func(kind string, elements []element) {
		for _, e := range elements {
			e.kind = kind
			out = append(out, e)
		}
	}
	add("decimal", p.Decimals)
	add("boolean", p.Booleans)
	add("text", p.Texts)
	add("enum", p.Enums)
	return out
}

// openKey is the rule of the Microsoft page "Win32 and Desktop Bridge app ADMX policy ingestion": not System,
// Software\Microsoft and Software\Policies\Microsoft, with exceptions, of which mail needs those of Office.
func openKey(key string) bool {
	key = strings.ToLower(strings.Trim(key, `\`)) + `\`
	for _, open := range []string{`software\policies\microsoft\office\`, `software\microsoft\office\`} {
		if strings.HasPrefix(key, open) {
			return true
		}
	}
	for _, closed := range []string{`system\`, `software\microsoft\`, `software\policies\microsoft\`} {
		if strings.HasPrefix(key, closed) {
			return false
		}
	}
	return key != `\`
}

// Find finds a policy by its categories, the top one first, and its name.
func (f *File) Find(categories []string, name string) (Policy, bool) {
	for _, p := range f.Policies {
		chain, err := f.chain(p)
		if err == nil && strings.EqualFold(p.Name, name) && slices.EqualFunc(chain, categories, strings.EqualFold) {
			return p, true
		}
	}
	return Policy{}, false
}

// In reports whether a policy is set under ./User or under ./Device, by its class.
func (p Policy) In(scope string) bool {
	switch strings.ToLower(p.Class) {
	case "user":
		return scope == "User"
	case "machine":
		return scope == "Device"
	}
	return true
}

// chain is the categories of a policy, the top one first.
func (f *File) chain(p Policy) ([]string, error) {
	var out []string
	for ref := p.Category.Ref; ref != ""; {
		name := ref
		if prefix, own, ok := strings.Cut(ref, ":"); ok && prefix == f.Target.Prefix {
			name = own
		}
		parent, ok := f.parents[name]
		if !ok || len(out) >= maxCategories {
			return nil, fmt.Errorf("category %q is not in the file, or its categories go in a circle", ref)
		}
		out = append(out, name)
		ref = parent
	}
	if len(out) == 0 {
		return nil, errors.New("it has no category (parentCategory)")
	}
	slices.Reverse(out)
	return out, nil
}

// Setting is what a server writes to a policy: <enabled/> with <data id="" value=""/>, or <disabled/>.
type Setting struct {
	enabled bool
	data    map[string]string
}

// ParseSetting reads the value of a policy node.
func ParseSetting(text string) (Setting, error) {
	wrapped := "<setting>" + text + "</setting>"
	if err := scanXML(wrapped, 64<<10, 3, 1000); err != nil {
		return Setting{}, fmt.Errorf("reading the policy's value: %w", err)
	}
	var in struct {
		Enabled  []struct{} `xml:"enabled"`
		Disabled []struct{} `xml:"disabled"`
		Data     []struct {
			ID    string `xml:"id,attr"`
			Value string `xml:"value,attr"`
		} `xml:"data"`
		Other []struct{} `xml:",any"`
		Text  string     `xml:",chardata"`
	}
	if err := xml.Unmarshal([]byte(wrapped), &in); err != nil {
		return Setting{}, fmt.Errorf("reading the policy's value: %w", err)
	}
	if len(in.Enabled)+len(in.Disabled) != 1 || len(in.Other) > 0 || strings.TrimSpace(in.Text) != "" {
		return Setting{}, errors.New("reading the policy's value: it must be <enabled/> with <data/> elements, or <disabled/>")
	}
	out := Setting{enabled: len(in.Enabled) == 1, data: map[string]string{}}
	for _, d := range in.Data {
		if _, twice := out.data[strings.ToLower(d.ID)]; twice || d.ID == "" {
			return Setting{}, errors.New("reading the policy's value: a <data/> element has no id, or the same as another")
		}
		out.data[strings.ToLower(d.ID)] = d.Value
	}
	return out, nil
}

// Apply writes what a policy means into the registry of values, "Key\Value" by name. An error says that the setting does
// not fit the policy; the registry is half written then.
func (p Policy) Apply(s Setting, registry map[string]string) error {
	put := func(key, name, value string, there bool) {
		if key == "" {
			key = p.Key
		}
		if path := strings.Trim(key, `\`) + `\` + name; name != "" && there {
			registry[path] = value
		}
	}
	list := p.OffList
	if s.enabled {
		value, there := p.Enabled.text("1")
		put("", p.ValueName, value, there)
		list = p.OnList
	} else if p.Disabled != nil {
		value, there := p.Disabled.text("0")
		put("", p.ValueName, value, there)
	}
	for _, i := range list {
		value, there := i.Value.text("")
		put(i.Key, i.ValueName, value, there)
	}
	return p.applyElements(s, put)
}

func (p Policy) applyElements(s Setting, put func(key, name, value string, there bool)) error {
	known := 0
	for _, e := range p.elements() {
		sent, ok := s.data[strings.ToLower(e.ID)]
		if !ok {
			if e.Required && s.enabled {
				return fmt.Errorf("element %q is missing", e.ID)
			}
			continue
		}
		known++
		value, there, ok := e.value(sent)
		if !ok {
			return fmt.Errorf("element %q cannot have the value that was sent", e.ID)
		}
		put(e.Key, e.ValueName, value, there && s.enabled)
	}
	if known != len(s.data) {
		return errors.New("there is data for an element that the policy does not have")
	}
	return nil
}

// value turns what was sent into what is written.
func (e element) value(sent string) (value string, there, ok bool) {
	switch e.kind {
	case "decimal":
		return sent, true, e.inRange(sent)
	case "boolean":
		switch strings.ToLower(sent) {
		case "true", "1":
			value, there = e.True.text("1")
			return value, there, true
		case "false", "0":
			value, there = e.False.text("0")
			return value, there, true
		}
		return "", false, false
	case "enum":
		for _, i := range e.Items {
			if v, there := i.Value.text(""); v == sent {
				return v, there, true
			}
		}
		return "", false, false
	}
	return sent, true, len(sent) <= 1023
}

// inRange is the schema's rule: 0 to 9999 unless the file says otherwise.
func (e element) inRange(sent string) bool {
	least, most := uint32(0), uint32(9999)
	if e.Min != nil {
		least = *e.Min
	}
	if e.Max != nil {
		most = *e.Max
	}
	n, err := strconv.ParseUint(sent, 10, 32)
	return err == nil && uint32(n) >= least && uint32(n) <= most
}
