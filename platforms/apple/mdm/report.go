package mdm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// The values of Report.Status.
const (
	StatusIdle               = "Idle"
	StatusAcknowledged       = "Acknowledged"
	StatusError              = "Error"
	StatusCommandFormatError = "CommandFormatError"
	StatusNotNow             = "NotNow"
)

// Report is what a device puts to its ServerURL: that it is idle, or how a command went.
type Report struct {
	Enrollment
	Status string
	// CommandUUID names the command; absent when idle.
	CommandUUID string
	// RequestType echoes the command's; Macs only.
	RequestType  string
	NotOnConsole bool
	// ErrorChain has the outermost error first; the last one usually tells why.
	ErrorChain []ErrorItem
	// ProfileList answers the command of that name; nil if the report is about something else.
	ProfileList []InstalledProfile
	// CertificateList answers the command of that name; nil if the report is about something else.
	CertificateList []InstalledCertificate
	// QueryResponses answers DeviceInformation. Queries that the device does not know or may not answer are absent.
	QueryResponses map[string]any
	// SecurityInfo answers the command of that name.
	SecurityInfo map[string]any
	// MessageResult answers DeviceLock.
	MessageResult string
	Raw           []byte
}

// ErrorItem is one error of a chain.
type ErrorItem struct {
	ErrorCode            int
	ErrorDomain          string
	LocalizedDescription string `plist:",omitempty"`
	USEnglishDescription string `plist:",omitempty"`
}

// InstalledProfile is one item of ProfileList. Values of settings are never returned: the top-level PayloadUUID tells
// which revision is installed.
type InstalledProfile struct {
	PayloadUUID              string
	PayloadIdentifier        string
	PayloadVersion           int                `plist:",omitempty"`
	PayloadDisplayName       string             `plist:",omitempty"`
	PayloadOrganization      string             `plist:",omitempty"`
	PayloadDescription       string             `plist:",omitempty"`
	PayloadRemovalDisallowed bool               `plist:",omitempty"`
	HasRemovalPasscode       bool               `plist:",omitempty"`
	IsEncrypted              bool               `plist:",omitempty"`
	IsManaged                bool               `plist:",omitempty"`
	Source                   string             `plist:",omitempty"`
	SignerCertificates       [][]byte           `plist:",omitempty"`
	PayloadContent           []InstalledPayload `plist:",omitempty"`
}

// InstalledPayload is one payload of an installed profile; absent when the profile was encrypted.
type InstalledPayload struct {
	PayloadType         string
	PayloadIdentifier   string
	PayloadUUID         string `plist:",omitempty"`
	PayloadVersion      int    `plist:",omitempty"`
	PayloadDisplayName  string `plist:",omitempty"`
	PayloadDescription  string `plist:",omitempty"`
	PayloadOrganization string `plist:",omitempty"`
}

// InstalledCertificate is one item of CertificateList. IsIdentity proves that the private key is there.
type InstalledCertificate struct {
	CommonName string
	IsIdentity bool
	Data       []byte // DER
}

// wireReport tells an empty list from an absent one, which the exported type does by nil.
type wireReport struct {
	Enrollment
	Status          string
	CommandUUID     string                  `plist:",omitempty"`
	RequestType     string                  `plist:",omitempty"`
	NotOnConsole    bool                    `plist:",omitempty"`
	ErrorChain      []ErrorItem             `plist:",omitempty"`
	ProfileList     *[]InstalledProfile     `plist:",omitempty"`
	CertificateList *[]InstalledCertificate `plist:",omitempty"`
	QueryResponses  map[string]any          `plist:",omitempty"`
	SecurityInfo    map[string]any          `plist:",omitempty"`
	MessageResult   string                  `plist:",omitempty"`
}

// DecodeReport reads a report of at most one megabyte. One without a status or a name of the device is an error.
func DecodeReport(body []byte) (*Report, error) {
	var w wireReport
	if err := proplist.DecodeInto(body, proplist.MaxSize, &w); err != nil {
		return nil, fmt.Errorf("decode report: %w", err)
	}
	r := &Report{Enrollment: w.Enrollment, Status: w.Status, CommandUUID: w.CommandUUID, RequestType: w.RequestType,
		NotOnConsole: w.NotOnConsole, ErrorChain: w.ErrorChain, QueryResponses: w.QueryResponses,
		SecurityInfo: w.SecurityInfo, MessageResult: w.MessageResult, Raw: body}
	if w.ProfileList != nil {
		r.ProfileList = *w.ProfileList
	}
	if w.CertificateList != nil {
		r.CertificateList = *w.CertificateList
	}
	return r, r.check()
}

func (r *Report) check() error {
	switch {
	case r.Status == "":
		return errors.New("decode report: Status is missing")
	case r.DeviceID() == "":
		return errors.New("decode report: neither UDID nor EnrollmentID is there")
	case r.Status != StatusIdle && r.CommandUUID == "":
		return errors.New("decode report: CommandUUID is missing")
	}
	return nil
}

// EncodeReport writes a report; the device's side.
func EncodeReport(r *Report) ([]byte, error) {
	w := wireReport{Enrollment: r.Enrollment, Status: r.Status, CommandUUID: r.CommandUUID, RequestType: r.RequestType,
		NotOnConsole: r.NotOnConsole, ErrorChain: r.ErrorChain, QueryResponses: r.QueryResponses,
		SecurityInfo: r.SecurityInfo, MessageResult: r.MessageResult}
	if r.ProfileList != nil {
		w.ProfileList = &r.ProfileList
	}
	if r.CertificateList != nil {
		w.CertificateList = &r.CertificateList
	}
	for name, tree := range map[string]map[string]any{"QueryResponses": r.QueryResponses, "SecurityInfo": r.SecurityInfo} {
		if _, err := proplist.Encode(orEmpty(tree)); err != nil {
			return nil, fmt.Errorf("encode report: %s: %w", name, err)
		}
	}
	out, err := proplist.Encode(&w)
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return out, nil
}

func orEmpty(tree map[string]any) map[string]any {
	if tree == nil {
		return map[string]any{}
	}
	return tree
}

// Explain puts an error chain into one sentence, outermost error first, in our words where the code is known and in
// the device's otherwise.
func (r *Report) Explain() string {
	var parts []string
	for _, e := range r.ErrorChain {
		words := ErrorMeaning(e.ErrorDomain, e.ErrorCode)
		if words == "" {
			words = e.words()
		}
		parts = append(parts, fmt.Sprintf("%s (%s %d)", words, e.ErrorDomain, e.ErrorCode))
	}
	return strings.Join(parts, ": ")
}

// words are the device's own, without the line breaks it may have put there.
func (e ErrorItem) words() string {
	text := e.USEnglishDescription
	if text == "" {
		text = e.LocalizedDescription
	}
	if text == "" {
		text = "error"
	}
	return strings.Join(strings.Fields(text), " ")
}
