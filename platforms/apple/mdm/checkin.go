package mdm

import (
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// Content types of the two kinds of messages. Devices may add parameters: compare by prefix.
const (
	ContentTypeCheckin = "application/x-apple-aspen-mdm-checkin"
	ContentTypeReport  = "application/x-apple-aspen-mdm"
)

// Message is a check-in message: a pointer to one of the types of this file.
type Message interface {
	// Type is Apple's MessageType.
	Type() string
	// From says which channel the message belongs to.
	From() Enrollment
	// Bytes is the message as it was received; nil for one that was made here.
	Bytes() []byte

	header() *Header
}

// Header holds what every check-in message carries.
type Header struct {
	Enrollment
	MessageType string
	Topic       string `plist:",omitempty"`
	Raw         []byte `plist:"-"`
}

// From implements Message.
func (h *Header) From() Enrollment { return h.Enrollment }

// Bytes implements Message.
func (h *Header) Bytes() []byte { return h.Raw }

func (h *Header) header() *Header { return h }

// Authenticate opens an enrolment. The MDM payload is not installed yet; only TokenUpdate proves that it is.
type Authenticate struct {
	Header
	OSVersion    string `plist:",omitempty"`
	BuildVersion string `plist:",omitempty"`
	ProductName  string `plist:",omitempty"`
	SerialNumber string `plist:",omitempty"`
	IMEI         string `plist:",omitempty"`
	MEID         string `plist:",omitempty"`
	DeviceName   string `plist:",omitempty"`
	Model        string `plist:",omitempty"`
	ModelName    string `plist:",omitempty"`
}

// TokenUpdate brings or renews the push token. A missing UnlockToken does not take back one that came earlier.
type TokenUpdate struct {
	Header
	Token                 []byte `plist:",omitempty"`
	PushMagic             string `plist:",omitempty"`
	UnlockToken           []byte `plist:",omitempty"`
	AwaitingConfiguration bool   `plist:",omitempty"`
	NotOnConsole          bool   `plist:",omitempty"`
}

// CheckOut says that the device left. It is sent once, as a best effort.
type CheckOut struct{ Header }

// UserAuthenticate asks whether a network user of a Mac shall be managed.
type UserAuthenticate struct {
	Header
	DigestResponse string `plist:",omitempty"`
}

// SetBootstrapToken hands over a Mac's bootstrap token; an empty one takes it back.
type SetBootstrapToken struct {
	Header
	BootstrapToken        []byte `plist:",omitempty"`
	AwaitingConfiguration bool   `plist:",omitempty"`
}

// GetBootstrapToken asks for the token that SetBootstrapToken brought.
type GetBootstrapToken struct {
	Header
	AwaitingConfiguration bool `plist:",omitempty"`
}

// GetToken asks for a token of another Apple service.
type GetToken struct {
	Header
	TokenServiceType string
	TokenParameters  map[string]any `plist:",omitempty"`
}

// DeclarativeManagement carries one request of declarative management; Data is JSON.
type DeclarativeManagement struct {
	Header
	Endpoint string
	Data     []byte `plist:",omitempty"`
}

// Unknown is a message of a type that this package does not know; newer systems have some.
type Unknown struct{ Header }

// Type implements Message.
func (*Authenticate) Type() string { return "Authenticate" }

// Type implements Message.
func (*TokenUpdate) Type() string { return "TokenUpdate" }

// Type implements Message.
func (*CheckOut) Type() string { return "CheckOut" }

// Type implements Message.
func (*UserAuthenticate) Type() string { return "UserAuthenticate" }

// Type implements Message.
func (*SetBootstrapToken) Type() string { return "SetBootstrapToken" }

// Type implements Message.
func (*GetBootstrapToken) Type() string { return "GetBootstrapToken" }

// Type implements Message.
func (*GetToken) Type() string { return "GetToken" }

// Type implements Message.
func (*DeclarativeManagement) Type() string { return "DeclarativeManagement" }

// Type implements Message.
func (u *Unknown) Type() string { return u.MessageType }

// DecodeCheckin reads a check-in message of at most one megabyte. A message of an unknown type is an *Unknown and no
// error; one without a type or without a name of the device is an error.
func DecodeCheckin(body []byte) (Message, error) {
	var head Header
	if err := proplist.DecodeInto(body, proplist.MaxSize, &head); err != nil {
		return nil, fmt.Errorf("decode check-in: %w", err)
	}
	if head.MessageType == "" {
		return nil, errors.New("decode check-in: MessageType is missing")
	}
	m := newMessage(head.MessageType)
	if err := proplist.DecodeInto(body, proplist.MaxSize, m); err != nil {
		return nil, fmt.Errorf("decode check-in %s: %w", known(m), err)
	}
	if m.From().DeviceID() == "" {
		return nil, fmt.Errorf("decode check-in %s: neither UDID nor EnrollmentID is there", known(m))
	}
	m.header().Raw = body
	return m, nil
}

// known names a message without quoting foreign text.
func known(m Message) string {
	if _, ok := m.(*Unknown); ok {
		return "of an unknown type"
	}
	return m.Type()
}

func newMessage(messageType string) Message {
	all := []Message{&Authenticate{}, &TokenUpdate{}, &CheckOut{}, &UserAuthenticate{}, &SetBootstrapToken{},
		&GetBootstrapToken{}, &GetToken{}, &DeclarativeManagement{}}
	for _, m := range all {
		if m.Type() == messageType {
			return m
		}
	}
	return &Unknown{}
}

// EncodeCheckin writes a check-in message; the device's side. It sets MessageType.
func EncodeCheckin(m Message) ([]byte, error) {
	m.header().MessageType = m.Type()
	out, err := proplist.Encode(m)
	if err != nil {
		return nil, fmt.Errorf("encode check-in %s: %w", known(m), err)
	}
	return out, nil
}

// The bodies with which a server answers a check-in message; all other answers are empty.
type (
	// UserAuthenticateAnswer carries DigestChallenge first and AuthToken second. An empty DigestChallenge means that no
	// credentials are needed.
	UserAuthenticateAnswer struct {
		DigestChallenge *string `plist:",omitempty"`
		AuthToken       *string `plist:",omitempty"`
	}
	// BootstrapTokenAnswer answers GetBootstrapToken; without a token the answer is an empty body.
	BootstrapTokenAnswer struct{ BootstrapToken []byte }
	// TokenAnswer answers GetToken.
	TokenAnswer struct{ TokenData []byte }
)

// Answer is the body of an answer to a check-in message.
type Answer interface {
	*UserAuthenticateAnswer | *BootstrapTokenAnswer | *TokenAnswer
}

// EncodeAnswer writes the body of an answer; the server's side.
func EncodeAnswer[A Answer](a A) ([]byte, error) { return proplist.Encode(a) }

// DecodeAnswer reads the body of an answer; the device's side.
func DecodeAnswer[A Answer](body []byte, a A) error {
	return proplist.DecodeInto(body, proplist.MaxSize, a)
}
