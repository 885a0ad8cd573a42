package companion

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a message. A state with the keys of a working life for several apps is larger than any request.
const (
	MaxRequest = 256 << 10
	MaxAnswer  = 4 << 20
	maxDepth   = 16
	maxList    = 5000
	maxText    = 4 << 10
	maxBinary  = 256 << 10 // base64 of DER
)

// DecodeEnrollRequest reads and checks the body of POST PathEnroll. A protocol that is too old is no error here: the
// answer to it is CodeProtocolTooOld.
func DecodeEnrollRequest(b []byte) (EnrollRequest, error) {
	return decode[EnrollRequest](b, MaxRequest, "enrolment request")
}

// DecodeRenewRequest reads and checks the body of POST PathRenew.
func DecodeRenewRequest(b []byte) (RenewRequest, error) {
	return decode[RenewRequest](b, MaxRequest, "renewal request")
}

// DecodeRenewResponse reads and checks the answer to a renewal.
func DecodeRenewResponse(b []byte) (RenewResponse, error) {
	return decode[RenewResponse](b, MaxAnswer, "answer to a renewal")
}

// DecodePayloadRequest reads and checks the body of POST PathPayload.
func DecodePayloadRequest(b []byte) (PayloadRequest, error) {
	return decode[PayloadRequest](b, MaxRequest, "payload request")
}

// DecodeCSRRequest reads and checks the body of POST PathCSR. Whether the PKCS#10 request is one, who parses it can tell.
func DecodeCSRRequest(b []byte) (CSRRequest, error) {
	return decode[CSRRequest](b, MaxRequest, "certificate request")
}

// DecodeStatusReport reads and checks the body of PUT PathStatus.
func DecodeStatusReport(b []byte) (StatusReport, error) {
	return decode[StatusReport](b, MaxRequest, "status report")
}

// DecodeInventory reads and checks the body of POST PathInventory.
func DecodeInventory(b []byte) (Inventory, error) {
	return decode[Inventory](b, MaxRequest, "inventory")
}

// DecodeEvents reads and checks the body of POST PathEvents, a list.
func DecodeEvents(b []byte) ([]Event, error) {
	return decode[events](b, MaxRequest, "list of events")
}

// DecodeUnenroll reads and checks the body of POST PathUnenroll.
func DecodeUnenroll(b []byte) (Unenroll, error) {
	return decode[Unenroll](b, MaxRequest, "unenrolment")
}

// DecodeEnrollResponse reads and checks the answer to an enrolment.
func DecodeEnrollResponse(b []byte) (EnrollResponse, error) {
	return decode[EnrollResponse](b, MaxAnswer, "answer to an enrolment")
}

// DecodeState reads and checks the desired state.
func DecodeState(b []byte) (State, error) { return decode[State](b, MaxAnswer, "state") }

// DecodePayloadResponse reads and checks an envelope. What is inside, DecodeSecret reads.
func DecodePayloadResponse(b []byte) (PayloadResponse, error) {
	return decode[PayloadResponse](b, MaxAnswer, "envelope")
}

// DecodeCSRResponse reads and checks the answer to a certificate request.
func DecodeCSRResponse(b []byte) (CSRResponse, error) {
	return decode[CSRResponse](b, MaxAnswer, "answer to a certificate request")
}

// DecodeStatusResponse reads and checks an acknowledgement.
func DecodeStatusResponse(b []byte) (StatusResponse, error) {
	return decode[StatusResponse](b, MaxAnswer, "acknowledgement")
}

// DecodeProblem reads and checks a refusal.
func DecodeProblem(b []byte) (Problem, error) { return decode[Problem](b, MaxAnswer, "refusal") }

// DecodeSecret reads and checks the content of an envelope. Its errors never repeat any of it.
func DecodeSecret(b []byte) (Secret, error) { return decode[Secret](b, MaxRequest, "secret") }

// message is one that can tell what is wrong with it; senders may ask too.
type message interface{ Check() error }

// events gives the list of events a Check.
type events []Event

// decode reads one message. Fields that it does not know are skipped, since the other side may be newer; everything else
// is strict: no second spelling of a name, nothing behind the message, bounded size, depth, lists and texts.
func decode[M message](b []byte, limit int, what string) (M, error) {
	var m, none M
	if len(b) > limit {
		return none, fmt.Errorf("%s: it has %d bytes; at most %d are read", what, len(b), limit)
	}
	if err := scan(b); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return none, fmt.Errorf("%s: %w", what, wrongType(err))
	}
	if err := m.Check(); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	return m, nil
}

// wrongType puts the decoder's words into ours; a text that is no number or time could be a secret, so it is not repeated.
func wrongType(err error) error {
	var bad *json.UnmarshalTypeError
	if errors.As(err, &bad) {
		return fmt.Errorf("%s must be %s", clip(bad.Field), form(bad.Type))
	}
	return errors.New("a time must be as in 2026-03-02T09:30:00Z, and bytes must be in base64")
}

// scan walks the message once and holds it to the bounds, before anything of it is kept.
func scan(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("it is not UTF-8")
	}
	s := scanner{json.NewDecoder(bytes.NewReader(b))}
	s.UseNumber()
	if err := s.value("", 0); err != nil {
		return err
	}
	if _, err := s.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the message")
	}
	return nil
}

type scanner struct{ *json.Decoder }

func (s scanner) value(name string, depth int) error {
	token, err := s.Token()
	if err != nil {
		return errors.New("it is not JSON")
	}
	switch t := token.(type) {
	case json.Delim:
		if depth == maxDepth {
			return fmt.Errorf("it is nested deeper than %d levels", maxDepth)
		}
		return s.container(t, name, depth)
	case string:
		if limit := maxTextOf(name); len(t) > limit {
			return fmt.Errorf("%s has %d bytes; at most %d are read", clip(name), len(t), limit)
		}
	}
	return nil
}

// maxTextOf: only bytes of certificates, requests and envelopes are long.
func maxTextOf(name string) int {
	if strings.HasSuffix(name, "_b64") || name == "envelope" {
		return maxBinary
	}
	return maxText
}

func (s scanner) container(open json.Delim, name string, depth int) error {
	seen := map[string]bool{}
	for n := 0; s.More(); n++ {
		if n == maxList {
			return fmt.Errorf("%s has more than %d entries", clip(name), maxList)
		}
		if open == '{' {
			var err error
			if name, err = s.name(seen); err != nil {
				return err
			}
		}
		if err := s.value(name, depth+1); err != nil {
			return err
		}
	}
	if _, err := s.Token(); err != nil {
		return errors.New("it is not JSON")
	}
	return nil
}

// name reads the name of a field. The decoder takes a name in any letter case, so two that differ in it are one.
func (s scanner) name(seen map[string]bool) (string, error) {
	token, err := s.Token()
	if err != nil {
		return "", errors.New("it is not JSON")
	}
	name, _ := token.(string)
	folded := strings.ToLower(name)
	if seen[folded] {
		return "", fmt.Errorf("%s is given twice", clip(name))
	}
	seen[folded] = true
	return name, nil
}

// form is how a Go type looks in JSON.
func form(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[[]byte]():
		return "base64"
	case t == reflect.TypeFor[time.Time]() || t.Kind() == reflect.String:
		return "a text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		return "an object"
	}
	return "a whole number"
}

// clip keeps foreign text in an error short.
func clip(s string) string {
	const limit = 64
	switch {
	case s == "":
		return "the message"
	case len(s) > limit:
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
