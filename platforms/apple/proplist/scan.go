package proplist

import (
	"bytes"
	"errors"
	"fmt"
)

// scan looks over the markup before the library does: the library recurses without a limit and ignores what follows
// the root element.
func scan(data []byte, limit int) error {
	if len(data) > limit {
		return fmt.Errorf("larger than %d KiB", limit>>10)
	}
	s := scanner{rest: data}
	for len(s.rest) > 0 {
		if err := s.step(); err != nil {
			return err
		}
	}
	if !s.closed {
		return errors.New("no complete root element")
	}
	return nil
}

// scanner walks over tags; text between them is the library's business.
type scanner struct {
	rest   []byte
	depth  int
	closed bool // the root element has ended
}

func (s *scanner) step() error {
	i := bytes.IndexByte(s.rest, '<')
	text := s.rest
	if i >= 0 {
		text = s.rest[:i]
	}
	if s.closed && len(bytes.TrimSpace(text)) > 0 {
		return errors.New("something follows the root element")
	}
	if i < 0 {
		s.rest = nil
		return nil
	}
	s.rest = s.rest[i:]
	return s.tag()
}

// tag consumes one tag, comment, CDATA section, directive or processing instruction.
func (s *scanner) tag() error {
	switch {
	case bytes.HasPrefix(s.rest, []byte("<!--")):
		return s.skip("-->")
	case bytes.HasPrefix(s.rest, []byte("<![CDATA[")):
		return s.skip("]]>")
	case bytes.HasPrefix(s.rest, []byte("<?")):
		return s.skip("?>")
	case bytes.HasPrefix(s.rest, []byte("<!DOCTYPE")):
		return s.doctype()
	case bytes.HasPrefix(s.rest, []byte("<!")):
		return errors.New("unexpected markup declaration")
	case s.closed:
		return errors.New("a second element follows the root element")
	}
	return s.element()
}

// doctype accepts the document type line and no internal subset: entities have no place in a property list.
func (s *scanner) doctype() error {
	end := bytes.IndexByte(s.rest, '>')
	if end < 0 || bytes.IndexByte(s.rest[:end], '[') >= 0 {
		return errors.New("document type with an internal subset")
	}
	s.rest = s.rest[end+1:]
	return nil
}

func (s *scanner) element() error {
	end := bytes.IndexByte(s.rest, '>')
	if end < 0 {
		return errors.New("cut off inside a tag")
	}
	tag := s.rest[1:end]
	s.rest = s.rest[end+1:]
	switch {
	case s.depth > 0 && bytes.IndexByte(tag, '=') >= 0: // a value might hide where the tag ends
		return errors.New("an element inside has attributes")
	case bytes.HasPrefix(tag, []byte("/")):
		s.depth--
	case !bytes.HasSuffix(tag, []byte("/")):
		s.depth++
	}
	if s.depth > maxDepth {
		return errors.New("nested too deeply")
	}
	s.closed = s.depth <= 0
	return nil
}

func (s *scanner) skip(end string) error {
	i := bytes.Index(s.rest, []byte(end))
	if i < 0 {
		return errors.New("cut off inside markup")
	}
	s.rest = s.rest[i+len(end):]
	return nil
}
