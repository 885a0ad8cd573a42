package windows

import (
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// planMails makes the S/MIME settings of an Email profile policies of Outlook. Outlook has one set of them for a user,
// so of several Email profiles the first by name gets it. What Windows does not do, NotOnWindows tells.
func (p *planner) planMails() []platforms.Document {
	var docs []platforms.Document
	first := ""
	for _, o := range p.objs {
		spec, ok := o.Spec.(*profiles.Email)
		if !ok {
			continue
		}
		doc := platforms.Document{ID: docMail + o.Name, Profiles: []string{o.Name}, UserScope: true}
		err := placeable(o.Name, spec, first)
		if err == nil { // only one document has the node, so that removing another never takes it away
			first, doc.Identifier, doc.Notes = o.Name, admxApp, NotOnWindows(spec)
			err = p.fillMail(&doc, o.Name, spec)
		}
		if err != nil {
			doc = wait(doc, err)
		}
		docs = append(docs, doc)
	}
	return docs
}

func placeable(name string, spec *profiles.Email, first string) error {
	if spec.SMIME == nil {
		return waits(platforms.ReasonNotDeliverable,
			"Email %s: it has no S/MIME settings, and on Windows these are all that is set up", name)
	}
	if first != "" {
		return waits(platforms.ReasonDuplicateAccount,
			"Email %s: Email %s already sets Outlook's S/MIME policies on this device; Windows has one set of them for a user", name, first)
	}
	return nil
}

// fillMail waits for the certificates that the profile names, or goes without, and sets the policies.
func (p *planner) fillMail(doc *platforms.Document, name string, spec *profiles.Email) error {
	a := account{name: name}
	var err error
	if a.address, err = p.address(name, spec); err != nil {
		return err
	}
	s := spec.SMIME
	encryptionOmitted, err := p.require(&a, s.Encryption.Certificate, "encrypt", s.Encryption.WhenMissing)
	if err != nil {
		return err
	}
	signingOmitted := false
	if s.Signing.Enabled {
		if signingOmitted, err = p.require(&a, s.Signing.Certificate, "sign", s.Signing.WhenMissing); err != nil {
			return err
		}
	}
	doc.DependsOn = a.dependsOn
	finishMail(doc, settingsOf(s, signingOmitted, encryptionOmitted))
	return nil
}

// account is an Email profile while its certificates are looked for.
type account struct {
	name, address string
	dependsOn     []string
}

// address is the one that the account has.
func (p *planner) address(name string, spec *profiles.Email) (string, error) {
	template := "{{EmailAddress}}"
	switch spec.AddressSource {
	case profiles.SourceUserPrincipalName:
		template = "{{UserPrincipalName}}"
	case profiles.SourceSAMAccountName:
		template = "{{OnPremisesSamAccountName}}"
	}
	v, err := profiles.Expand(template, p.vars)
	if err != nil {
		return "", unresolved("Email "+name+": addressSource", err)
	}
	return v, nil
}

// require makes the account depend on the document of the certificate that the named profile gives it. Outlook finds the
// certificate by itself in the user's store; without it the policies would only break sending. omitted: the certificate
// is missing, and the profile says to go without.
func (p *planner) require(a *account, name, verb string, missing profiles.Missing) (omitted bool, err error) {
	if name == "" {
		return false, nil
	}
	id, err := p.bringer(a, name, verb)
	if err != nil && missing == profiles.MissingOmit {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if id != "" && !slices.Contains(a.dependsOn, id) {
		a.dependsOn = append(a.dependsOn, id)
	}
	return false, nil
}

// bringer is the document that brings the certificate of the named profile.
func (p *planner) bringer(a *account, name, verb string) (string, error) {
	if o, ok := p.find(name); ok {
		if spec, asks := o.Spec.(*profiles.SCEPCertificate); asks {
			return docIdentity + name, p.asksFor(a, name, spec)
		}
	}
	c, err := p.choose(a, name, verb)
	return p.owner[c.SHA256], err
}

// asksFor looks whether a certificate that the PC asks for itself will be for the account's address.
func (p *planner) asksFor(a *account, name string, spec *profiles.SCEPCertificate) error {
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

// choose gives the certificate of the named profile that the account shall use (EM-04, EM-08).
func (p *planner) choose(a *account, name, verb string) (profiles.Certificate, error) {
	o, ok := p.find(name)
	if !ok {
		return profiles.Certificate{}, waits(platforms.ReasonCertificateMissing,
			"Email %s: the profile %s, which it uses to %s, is not assigned to this device", a.name, name, verb)
	}
	c, err := p.chooseFrom(o, a.address)
	if err != nil {
		return profiles.Certificate{}, err
	}
	if !slices.ContainsFunc(c.Addresses, func(b string) bool { return strings.EqualFold(a.address, b) }) {
		return profiles.Certificate{}, waits(platforms.ReasonAddressMismatch,
			"Email %s: the certificate of %s is for %s, the account's address is %s", a.name, name, list(c.Addresses), a.address)
	}
	return c, nil
}

func (p *planner) chooseFrom(o profiles.Object, address string) (profiles.Certificate, error) {
	switch spec := o.Spec.(type) {
	case *profiles.PKCSCertificate:
		return p.issued(o.Name, spec)
	case *profiles.PKCSImportedCertificate:
		certs := p.imported(spec.IntendedPurpose)
		c, ok := profiles.Current(certs, address, p.in.Now)
		if !ok {
			return c, p.noneFor(certs, purposeWord(spec.IntendedPurpose), address)
		}
		return c, nil
	}
	return profiles.Certificate{}, waits(platforms.ReasonNotDeliverable, "%s %s is not a certificate with a key", o.Kind, o.Name)
}

func purposeWord(p profiles.Purpose) string {
	if p == profiles.PurposeSMIMESigning {
		return "signing"
	}
	return "encryption"
}

func list(addresses []string) string {
	if len(addresses) == 0 {
		return "no address"
	}
	return strings.Join(addresses, ", ")
}

// NotOnWindows lists what an Email profile says and Windows does not do, a sentence each: no CSP sets up an account of
// Outlook or names the certificates that it uses, and a policy of Outlook leaves the user no choice (windows.md 3.5, 3.6
// and 3.10). The user chooses the certificates in Outlook's Trust Center, or Outlook picks them by the address.
func NotOnWindows(spec *profiles.Email) []string {
	out := []string{"the account itself is not set up: Windows has no setting for accounts of Outlook"}
	for _, b := range []struct {
		field string
		set   bool
	}{{"blockMovingMessages", spec.BlockMovingMessages}, {"blockThirdPartyApps", spec.BlockThirdPartyApps},
		{"blockRecentAddressesSync", spec.BlockRecentAddressesSync}, {"allowMailDrop", spec.AllowMailDrop}} {
		if b.set {
			out = append(out, b.field+": Outlook has no such setting")
		}
	}
	if s := spec.SMIME; s != nil {
		out = append(out, notInOutlook("signing", s.Signing.Certificate, s.Signing.Enabled, s.Signing.UserMayChange, s.Signing.UserMayChangeCertificate)...)
		out = append(out, notInOutlook("encryption", s.Encryption.Certificate, s.Encryption.ByDefault, s.Encryption.UserMayChange, s.Encryption.UserMayChangeCertificate)...)
		if !s.Encryption.PerMessageSwitch {
			out = append(out, "smime.encryption.perMessageSwitch: Outlook lets the user decide for each message")
		}
	}
	return out
}

func notInOutlook(field, certificate string, on, mayChange, mayChangeCertificate bool) []string {
	var out []string
	if certificate != "" {
		out = append(out, fmt.Sprintf("smime.%s.certificate: it is delivered first, but no policy tells Outlook to use it", field))
	}
	if on && mayChange {
		out = append(out, fmt.Sprintf("smime.%s.userMayChange: a policy fixes the switch", field))
	}
	if !mayChangeCertificate {
		out = append(out, fmt.Sprintf("smime.%s.userMayChangeCertificate: the user may always choose another certificate", field))
	}
	return out
}
