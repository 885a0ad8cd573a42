package android

import (
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// planGenerated has the device make a key and ask for its certificate (android.md section 8.3). The alias and the revision
// are those of the request: another certificate is another key. What is in the item beside them only describes it.
func (p *planner) planGenerated(doc platforms.Document, name string, spec *profiles.SCEPCertificate) platforms.Document {
	e, err := p.enrolment(name, spec)
	if err != nil {
		return wait(doc, err)
	}
	doc.Proof, doc.Challenges = AliasFor(e.Request), []string{name}
	doc.Identifier = prefixIdentity + doc.Proof
	id := &companion.Identity{Purpose: companion.PurposeSign, Alias: doc.Proof, UserSelectable: p.selectable(), Payload: companion.PayloadGenerate,
		Generate: &companion.Generate{KeyAlg: companion.KeyAlgRSA, KeySize: spec.KeyBits(), Subject: e.Subject, Names: names(e.SANs), KeyUsage: e.KeyUsage}}
	if c := e.Issued; c.SHA256 != "" {
		doc.Certificates = []string{c.SHA256}
		id.CertSHA256, id.NotBefore, id.NotAfter = c.SHA256, c.NotBefore.UTC(), c.NotAfter.UTC()
	}
	finish(&doc, companion.Item{Kind: companion.KindIdentity, DependsOn: identifiers(p.trust), Identity: id}, e.Request)
	p.generated[name] = doc
	return doc
}

// AliasFor names the key that a device makes for a request.
func AliasFor(request string) string { return aliasSigning + request[:min(aliasLength, len(request))] }

// IsGenerated tells whether the device makes the key of the document itself.
func IsGenerated(doc platforms.Document) bool { return len(doc.Challenges) > 0 }

func names(sans []profiles.SubjectAlternativeName) []companion.Name {
	var out []companion.Name
	for _, n := range sans {
		out = append(out, companion.Name{Type: string(n.Type), Value: n.Value})
	}
	return out
}

// enrolment is how the device gets the certificate of a profile, or why it cannot.
func (p *planner) enrolment(name string, spec *profiles.SCEPCertificate) (platforms.SCEPEnrolment, error) {
	root, offered := p.in.CAs[spec.CertificateAuthority]
	e, ok := p.in.SCEP[name]
	switch {
	case !generates(p.in.Device.OSVersion):
		return e, waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s: Android %s makes no keys for its key chain; from Android %d on it does",
			name, p.in.Device.OSVersion, firstOwnRelease)
	case !offered || len(root) == 0:
		return e, waits(platforms.ReasonCertificateAuthorityUnknown,
			"SCEPCertificate %s: no connector offers the certificate authority %q", name, spec.CertificateAuthority)
	case ok && e.Partner:
		return e, waits(platforms.ReasonNotDeliverable,
			"SCEPCertificate %s: the partner CA %s is asked by SCEP, which the companion app does not speak", name, spec.CertificateAuthority)
	case ok:
		return e, nil
	}
	if err := p.checkVariables("SCEPCertificate "+name, &spec.CertificateRequest); err != nil {
		return e, err
	}
	return e, waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s: its subject cannot be written for this device", name)
}

// generatedFor looks whether a certificate that the device asks for will be for the account's address.
func (p *planner) generatedFor(a *account, name string, spec *profiles.SCEPCertificate) error {
	e, err := p.enrolment(name, spec)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(e.SANs, func(n profiles.SubjectAlternativeName) bool {
		return n.Type == profiles.SANEmail && strings.EqualFold(n.Value, a.address)
	}) {
		return waits(platforms.ReasonAddressMismatch,
			"Email %s: SCEPCertificate %s asks for a certificate without the account's address %s", a.name, name, a.address)
	}
	return nil
}
