package mde

import (
	"errors"
	"strings"

	"github.com/waxseal/waxseal/internal/xmltree"
)

// Subcode says which step failed. Windows shows its user the HRESULT that belongs to it.
type Subcode string

// The subcodes that Windows knows (windows.md 1.9; [MS-MDE2] 2.2.10).
const (
	MessageFormat        Subcode = "s:MessageFormat"        // 80180001, the request could not be read
	Authentication       Subcode = "s:Authentication"       // 80180002, the user is not who he says
	Authorization        Subcode = "s:Authorization"        // 80180003, the user may not enrol
	CertificateRequest   Subcode = "s:CertificateRequest"   // 80180004, no certificate is to be had
	EnrollmentServer     Subcode = "s:EnrollmentServer"     // 80180005, the server fails, its database for one
	InternalServiceFault Subcode = "a:InternalServiceFault" // 80180006, the server did not expect this
	InvalidSecurity      Subcode = "a:InvalidSecurity"      // 80180007, the security header could not be read
)

// HRESULT is the number that Windows makes of the subcode, 0 for an unknown one.
func (s Subcode) HRESULT() uint32 {
	return map[Subcode]uint32{MessageFormat: 0x80180001, Authentication: 0x80180002, Authorization: 0x80180003,
		CertificateRequest: 0x80180004, EnrollmentServer: 0x80180005, InternalServiceFault: 0x80180006,
		InvalidSecurity: 0x80180007}[s]
}

// ErrorType tells more than the subcode. Windows looks for it first, and at the subcode if there is none.
type ErrorType string

// The types of errors that Windows knows (windows.md 1.9; [MS-MDE2] 2.2.10).
const (
	DeviceCapReached      ErrorType = "DeviceCapReached"      // 80180013, the user has too many devices
	DeviceNotSupported    ErrorType = "DeviceNotSupported"    // 80180014, not this platform or version
	NotSupported          ErrorType = "NotSupported"          // 80180015, no management for this device
	NotEligibleToRenew    ErrorType = "NotEligibleToRenew"    // 80180016, the certificate is not renewed
	InMaintenance         ErrorType = "InMaintenance"         // 80180017, try later
	UserLicense           ErrorType = "UserLicense"           // 80180018, the user lacks a licence
	InvalidEnrollmentData ErrorType = "InvalidEnrollmentData" // 80180019, the server refuses the enrollment data
)

// HRESULT is the number that Windows makes of the type, 0 for an unknown one.
func (e ErrorType) HRESULT() uint32 {
	return map[ErrorType]uint32{DeviceCapReached: 0x80180013, DeviceNotSupported: 0x80180014, NotSupported: 0x80180015,
		NotEligibleToRenew: 0x80180016, InMaintenance: 0x80180017, UserLicense: 0x80180018,
		InvalidEnrollmentData: 0x80180019}[e]
}

// Fault declines a request.
type Fault struct {
	Subcode Subcode
	// Detail is optional.
	Detail ErrorType
	// Reason is a sentence for the user and for Windows' log. No secret in it.
	Reason string
	// TraceID goes to Windows' log: the server's name of the request. Optional.
	TraceID string
	// LowerCase writes all names, and the codes, in lower case, as Microsoft's pages print them. Leave it off: the schema
	// and Microsoft's own service have capitals, and what is known of Windows' client is that it looks for these.
	LowerCase bool
}

// FaultResponse answers any request; action is that of the answer that would have been right. Send it as HTTP 200.
// Source: windows.md 1.9; SOAP 1.2 Part 1 section 5.4.
func FaultResponse(relatesTo, action string, f Fault) ([]byte, error) {
	switch {
	case f.Subcode.HRESULT() == 0:
		return nil, errors.New("answer with a fault: Subcode must be one of the constants")
	case f.Detail != "" && f.Detail.HRESULT() == 0:
		return nil, errors.New("answer with a fault: Detail must be one of the constants or empty")
	case f.Reason == "" || action == "":
		return nil, errors.New("answer with a fault: Reason or action is missing")
	}
	answer := envelope(action, relatesTo, nil, f.fault())
	if f.LowerCase {
		answer = answer.Lower()
	}
	return answer.Render(), nil
}

func (f Fault) fault() xmltree.Element {
	fault := xmltree.Parent("s:Fault",
		xmltree.Parent("s:Code", xmltree.Text("s:Value", f.code("s:Receiver")),
			xmltree.Parent("s:Subcode", xmltree.Text("s:Value", f.code(string(f.Subcode))))),
		xmltree.Parent("s:Reason", xmltree.Text("s:Text", f.Reason).With("xml:lang", "en-us")))
	if f.Detail != "" || f.TraceID != "" {
		fault = fault.Add(xmltree.Parent("s:Detail", f.detail()))
	}
	return fault
}

// detail has what there is to say: an empty ErrorType would be none that anybody knows.
func (f Fault) detail() xmltree.Element {
	e := xmltree.Parent("DeviceEnrollmentServiceError").With("xmlns", nsEnrollment)
	for _, l := range [][2]string{{"ErrorType", f.code(string(f.Detail))}, {"Message", f.Reason}, {"TraceId", f.TraceID}} {
		if l[1] != "" {
			e = e.Add(xmltree.Text(l[0], l[1]))
		}
	}
	return e
}

func (f Fault) code(text string) string {
	if f.LowerCase {
		return strings.ToLower(text)
	}
	return text
}
