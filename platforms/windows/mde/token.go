package mde

import (
	"errors"

	"github.com/waxseal/waxseal/internal/xmltree"
)

// TokenRequest asks for the certificate of the management channel, or renews it ([MS-WSTEP] 3.1.4.1).
type TokenRequest struct {
	TokenType, RequestType string
	// Renew says that RequestType is RequestRenew.
	Renew bool
	// CSR is the DER of a PKCS#10 request, unless Renew; see ParseCSR.
	CSR []byte
	// PKCS7 is, if Renew, a CMS SignedData by the old key around a new PKCS#10 request. Nobody has verified it yet.
	PKCS7   []byte
	Context []ContextItem
}

// ContextItem is one thing that the PC tells of itself. Names may repeat.
type ContextItem struct{ Name, Value string }

// First gives the first value of that name, empty if there is none.
func (t *TokenRequest) First(name string) string {
	for _, item := range t.Context {
		if item.Name == name {
			return item.Value
		}
	}
	return ""
}

// All gives every value of that name: MAC and IMEI come once per adapter.
func (t *TokenRequest) All(name string) []string {
	var values []string
	for _, item := range t.Context {
		if item.Name == name {
			values = append(values, item.Value)
		}
	}
	return values
}

// DeviceID names this enrolment; the management channel calls it DevId.
func (t *TokenRequest) DeviceID() string { return t.First("DeviceID") }

// HWDevID names the hardware: it stays the same when the PC enrols again.
func (t *TokenRequest) HWDevID() string { return t.First("HWDevID") }

// EnrollmentType is "Full" or "Device"; see StoreFor.
func (t *TokenRequest) EnrollmentType() string { return t.First("EnrollmentType") }

// DeviceName is the name that people gave the PC.
func (t *TokenRequest) DeviceName() string { return t.First("DeviceName") }

// OSVersion is dotted, as "10.0.22631.3007".
func (t *TokenRequest) OSVersion() string { return t.First("OSVersion") }

// OSEdition is Windows' product type, decimal.
func (t *TokenRequest) OSEdition() string { return t.First("OSEdition") }

// RequestVersion may be missing: then that of Discover counts.
func (t *TokenRequest) RequestVersion() string { return t.First("RequestVersion") }

// StoreFor gives the store that the certificate goes to: a PC that enrols as a device has it in the computer's.
func StoreFor(enrollmentType string) string {
	if enrollmentType == "Device" {
		return StoreSystem
	}
	return StoreUser
}

func (r *reader) token(n *xmltree.Node) *TokenRequest {
	t := &TokenRequest{TokenType: r.text(n, "TokenType"), RequestType: r.text(n, "RequestType")}
	for _, item := range r.one(n, "AdditionalContext").All("ContextItem") {
		t.Context = append(t.Context, ContextItem{Name: item.Attr("Name"), Value: r.text(item, "Value")})
	}
	token := r.one(n, "BinarySecurityToken")
	if token == nil {
		r.fail("RequestSecurityToken has no BinarySecurityToken")
		return t
	}
	der, err := unwrap(packed(token.Text()))
	if err != nil {
		r.fail("BinarySecurityToken of RequestSecurityToken: %w", err)
	}
	r.sort(t, token.Attr("ValueType"), der)
	return t
}

// sort puts the request where it belongs by its types.
func (r *reader) sort(t *TokenRequest, valueType string, der []byte) {
	switch {
	case t.RequestType == RequestIssue && valueType == ValueTypePKCS10:
		t.CSR = der
	case t.RequestType == RequestRenew && (valueType == ValueTypePKCS7 || valueType == valueTypePKCS7Sample):
		t.Renew, t.PKCS7 = true, der
	default:
		r.fail("RequestType must be %s with a ValueType #PKCS10, or %s with #PKCS7", RequestIssue, RequestRenew)
	}
}

// unwrap decodes base64 once or, as a renewal by hand has it, twice (windows.md 1.8). What it is after begins with a
// SEQUENCE, and base64 of that with an M.
func unwrap(text []byte) ([]byte, error) {
	for range 2 {
		decoded, err := decodeBase64(string(text))
		if err != nil {
			break
		}
		if len(decoded) > 0 && decoded[0] == 0x30 {
			return decoded, nil
		}
		text = packed(string(decoded))
	}
	return nil, errors.New("is no DER in base64")
}
