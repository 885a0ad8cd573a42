package apple

import (
	"errors"
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// EnrollmentParams is what an enrolment profile is made of. Topic, the URLs and AccessRights can never change on a
// device that enrolled with them.
type EnrollmentParams struct {
	Namespace    string // the profile's identifier is Namespace.enrollment
	Organization string
	// EnrolmentID goes into the UUIDs, so that a repeated download differs in the challenge alone.
	EnrolmentID string
	// TLSRoots (DER) are the CA certificates of the server's TLS certificate; an iPhone does not believe them from here,
	// a Mac does.
	TLSRoots [][]byte
	// SCEPURL, SCEPName and Challenge say where and how the device gets its identity.
	SCEPURL   string
	SCEPName  string
	Challenge string
	// CommonName of the request's subject. The CA takes names from the challenge's binding, not from here.
	CommonName string
	// Topic of the push certificate, such as "com.apple.mgmt.External.…".
	Topic      string
	ServerURL  string
	CheckInURL string // empty: ServerURL
	// SignMessage asks for a signature over each message in a header; off where TLS client certificates do the same.
	SignMessage  bool
	AccessRights int
	// Retries and RetryDelay (seconds) of SCEP while the server answers PENDING; zero means Apple's default.
	Retries    int
	RetryDelay int
}

// EnrollmentProfile writes the profile that a device enrols with, not signed: roots, a SCEP identity and the management
// payload, nothing else.
//
// There is no CAFingerprint: simple clients would then encrypt to the CA's certificate alone. There is no PayloadScope:
// on a Mac the value System would suppress the user channel.
// Source: https://developer.apple.com/documentation/devicemanagement/mdm.
func EnrollmentProfile(p EnrollmentParams) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("enrolment profile: %w", err)
	}
	identifier := p.Namespace + ".enrollment"
	payloads := p.roots(identifier)
	scepUUID := derivedUUID(p.Namespace, p.EnrolmentID, "enrollment", "scep")
	payloads = append(payloads, p.scep(identifier, scepUUID), p.management(identifier, scepUUID))
	top := head(typeConfiguration, identifier, derivedUUID(p.Namespace, p.EnrolmentID, "enrollment"), "Device management")
	setString(top, "PayloadOrganization", p.Organization)
	top["PayloadDescription"] = "Enrols this device, so that it gets its certificates and mail settings."
	top["PayloadContent"] = payloads
	return proplist.Encode(top)
}

func (p EnrollmentParams) check() error {
	switch {
	case p.Namespace == "":
		return errors.New("the namespace is empty")
	case p.SCEPURL == "" || p.ServerURL == "":
		return errors.New("the SCEP URL or the server URL is empty")
	case p.Challenge == "":
		return errors.New("the SCEP challenge is empty")
	case !strings.HasPrefix(p.Topic, "com.apple.mgmt."):
		return fmt.Errorf("the topic %q must begin with com.apple.mgmt. and the name that Apple gave", p.Topic)
	case p.AccessRights <= 0 || p.AccessRights > 8191:
		return fmt.Errorf("access rights are %d, must be 1 to 8191", p.AccessRights)
	}
	return nil
}

func (p EnrollmentParams) roots(identifier string) []any {
	payloads := []any{}
	for _, der := range p.TLSRoots {
		sum := hexSHA256(der)
		d := head(typeRoot, identifier+".root."+short(sum), derivedUUID(p.Namespace, p.EnrolmentID, "enrollment", "root", sum), "Server root")
		d["PayloadContent"] = der
		payloads = append(payloads, d)
	}
	return payloads
}

// scep asks for an RSA key that can sign and decrypt: documents are encrypted to it.
func (p EnrollmentParams) scep(identifier, uuid string) proplist.Dict {
	inner := proplist.Dict{
		"URL":       p.SCEPURL,
		"Challenge": p.Challenge,
		"Keysize":   2048,
		"Key Type":  "RSA",
		"Key Usage": 5,
	}
	setString(inner, "Name", p.SCEPName)
	if p.CommonName != "" {
		inner["Subject"] = []any{[]any{[]any{"CN", p.CommonName}}}
	}
	setPositive(inner, "Retries", p.Retries)
	setPositive(inner, "RetryDelay", p.RetryDelay)
	d := head(typeSCEP, identifier+".identity", uuid, "Device identity")
	d["PayloadContent"] = inner
	return d
}

// management is the payload by which the server manages the device. Recent Macs refuse one without the capability to
// speak to users, which can never be added later; the one for bootstrap tokens is for Macs as well. Devices ignore the
// capabilities of others (apple.md section 1.3).
func (p EnrollmentParams) management(identifier, identityUUID string) proplist.Dict {
	d := head(typeMDM, identifier+".mdm", derivedUUID(p.Namespace, p.EnrolmentID, "enrollment", "mdm"), "Device management")
	d["IdentityCertificateUUID"] = identityUUID
	d["Topic"] = p.Topic
	d["ServerURL"] = p.ServerURL
	setString(d, "CheckInURL", p.CheckInURL)
	d["SignMessage"] = p.SignMessage
	d["AccessRights"] = p.AccessRights
	d["CheckOutWhenRemoved"] = true
	d["ServerCapabilities"] = []any{"com.apple.mdm.per-user-connections", "com.apple.mdm.bootstraptoken"}
	return d
}

func setPositive(d proplist.Dict, key string, n int) {
	if n > 0 {
		d[key] = n
	}
}
