package apple

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// Ids of documents; the parts after the dot are the names of the admin's profiles.
const (
	docTrust    = "trust"
	docHistory  = "history"
	docOthers   = "unassigned"
	docMail     = "mail."
	docIdentity = "identity."
	docCustom   = "custom."
)

// Plan works out the documents of one Apple device, in the order in which they should be sent: trust, history, mail
// accounts, other identities, custom profiles. A document that must wait is in the list with its reason. Of a Mac it is
// one channel's documents.
//
// Each identity is in exactly one document, because removing one of two profiles with the same identity may take the
// identity away. A mail document holds its account's own identities, since S/MIME keys name payloads of the same
// profile only; history holds all the other encryption identities, expired ones too. While an encryption identity moves
// from one document to the other it is in both: to be without it is worse.
func Plan(in platforms.Input) []platforms.Document {
	p := newPlanner(in)
	if p.mac() && !p.user() {
		return p.planSystem()
	}
	p.mails = p.planMails()
	trust := p.planTrust()
	history := p.planHistory()
	docs := slices.Concat(history, p.orderMails(history), p.planIdentities(), p.planUnassigned(), p.planCustoms())
	return append(trust, afterTrust(trust, docs)...)
}

// afterTrust makes documents wait until the CAs are there, if there are any.
func afterTrust(trust, docs []platforms.Document) []platforms.Document {
	if len(trust) > 0 {
		for i := range docs {
			docs[i].DependsOn = append([]string{docTrust}, docs[i].DependsOn...)
		}
	}
	return docs
}

// planner gathers what the parts of one plan share.
type planner struct {
	in    platforms.Input
	objs  []profiles.Object // sorted by name
	vars  profiles.Vars
	mails []mail
	// owner maps the SHA-256 of an identity to the document that holds it, or will once it need not wait any more.
	owner map[string]string
}

func newPlanner(in platforms.Input) *planner {
	p := &planner{in: in, objs: slices.Clone(in.Profiles), owner: map[string]string{}}
	slices.SortFunc(p.objs, func(a, b profiles.Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	p.vars = profiles.VarsFor(in.UPN, &in.User)
	p.vars.DeviceID, p.vars.DeviceName = in.Device.ID, in.Device.Name
	p.vars.SerialNumber, p.vars.IMEI = in.Device.SerialNumber, in.Device.IMEI
	return p
}

// find gives the effective profile of that name; Email profiles reach others only through it.
func (p *planner) find(name string) (profiles.Object, bool) {
	for _, o := range p.objs {
		if o.Name == name && o.Kind.IsProfile() {
			return o, true
		}
	}
	return profiles.Object{}, false
}

// document starts a document; finish or wait completes it.
func (p *planner) document(id string, names ...string) platforms.Document {
	prefix := p.in.Namespace
	if p.user() {
		prefix += userPrefix
	}
	return platforms.Document{ID: id, Identifier: prefix + "." + id, Profiles: names}
}

// body starts a body with what all documents have.
func (p *planner) body(displayName string) body {
	return body{DisplayName: displayName, Organization: p.in.Organization, Scope: p.scope()}
}

// problem is why a document must wait.
type problem struct {
	reason platforms.Reason
	detail string
}

func (e *problem) Error() string { return e.detail }

func waits(reason platforms.Reason, format string, args ...any) error {
	return &problem{reason: reason, detail: fmt.Sprintf(format, args...)}
}

// unresolved turns the error of an expansion into a reason to wait.
func unresolved(where string, err error) error {
	return waits(platforms.ReasonVariableUnresolved, "%s: %v", where, err)
}

// wait marks the document as waiting. Without a content it has no revision.
func wait(doc platforms.Document, err error) platforms.Document {
	var why *problem
	if !errors.As(err, &why) {
		why = &problem{reason: platforms.ReasonNotDeliverable, detail: err.Error()}
	}
	doc.Reason, doc.Detail = why.reason, strings.ReplaceAll(why.detail, "\n", "; ")
	return doc
}

// planTrust puts all trusted certificates into one document: roots that management installs are trusted at once.
func (p *planner) planTrust() []platforms.Document {
	doc := p.document(docTrust)
	b := p.body("Trusted certificates")
	var missing error
	for _, o := range p.objs {
		spec, ok := o.Spec.(*profiles.TrustedCertificate)
		if !ok {
			continue
		}
		doc.Profiles = append(doc.Profiles, o.Name)
		der, err := p.trusted(o.Name, spec)
		if err != nil {
			missing = cmp.Or(missing, err)
			continue
		}
		sum := hexSHA256(der)
		if slices.Contains(doc.Certificates, sum) {
			continue
		}
		doc.Certificates = append(doc.Certificates, sum)
		b.Payloads = append(b.Payloads, planned{Type: typeRoot, Identifier: doc.Identifier + ".root." + sum[:16],
			UUID: p.payloadUUID(docTrust, "root", sum), DisplayName: o.Name, Certificate: der})
	}
	if len(doc.Profiles) == 0 {
		return nil
	}
	if missing != nil {
		return []platforms.Document{wait(doc, missing)}
	}
	finish(&doc, b)
	return []platforms.Document{doc}
}

func (p *planner) trusted(name string, spec *profiles.TrustedCertificate) ([]byte, error) {
	if len(spec.Certificate) > 0 {
		return spec.Certificate, nil
	}
	if der := p.in.CAs[spec.CertificateAuthority]; len(der) > 0 {
		return der, nil
	}
	return nil, waits(platforms.ReasonCertificateAuthorityUnknown,
		"TrustedCertificate %s: no connector offers the certificate authority %q", name, spec.CertificateAuthority)
}

// planHistory holds every encryption identity of the user that no mail account brings, if a profile asks for them.
func (p *planner) planHistory() []platforms.Document {
	return p.planImported(docHistory, profiles.PurposeSMIMEEncryption, "Encryption", p.brings)
}

// planUnassigned holds what was imported without a purpose: it is installed, and no account names it (IM-01, IM-03).
func (p *planner) planUnassigned() []platforms.Document {
	return p.planImported(docOthers, profiles.PurposeUnassigned, "Unassigned", func(sum string) bool { return p.owner[sum] != "" })
}

// planImported puts all imported certificates of a purpose into one document, but those that are in another one.
func (p *planner) planImported(id string, purpose profiles.Purpose, what string, elsewhere func(sum string) bool) []platforms.Document {
	names := p.importing(purpose)
	if len(names) == 0 {
		return nil
	}
	all := p.imported(purpose)
	doc := p.document(id, names...)
	if len(all) == 0 {
		return []platforms.Document{wait(doc, waits(platforms.ReasonCertificateMissing,
			"PKCSImportedCertificate %s: %s has no imported %s certificate", names[0], p.in.UPN, strings.ToLower(what)))}
	}
	b := p.body(what + " certificates of " + p.in.UPN)
	for _, c := range all {
		if !elsewhere(c.SHA256) {
			p.addIdentity(&doc, &b, c, what)
		}
	}
	if len(b.Payloads) == 0 {
		return nil
	}
	finish(&doc, b)
	return []platforms.Document{doc}
}

// importing names the profiles that deliver imported certificates of the purpose.
func (p *planner) importing(purpose profiles.Purpose) []string {
	var names []string
	for _, o := range p.objs {
		if spec, ok := o.Spec.(*profiles.PKCSImportedCertificate); ok && spec.IntendedPurpose == purpose {
			names = append(names, o.Name)
		}
	}
	return names
}

// imported are the user's imported certificates of the purpose, oldest first, each once.
func (p *planner) imported(purpose profiles.Purpose) []profiles.Certificate {
	var certs []profiles.Certificate
	seen := map[string]bool{}
	for _, c := range p.in.Imported {
		if c.Purpose == purpose && !seen[c.SHA256] {
			seen[c.SHA256] = true
			certs = append(certs, c)
		}
	}
	slices.SortFunc(certs, func(a, b profiles.Certificate) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), cmp.Compare(a.SHA256, b.SHA256))
	})
	return certs
}

// addIdentity puts an identity into the document and gives the UUID of its payload, by which S/MIME keys name it.
func (p *planner) addIdentity(doc *platforms.Document, b *body, c profiles.Certificate, what string) string {
	p.owner[c.SHA256] = doc.ID
	uuid := p.payloadUUID(doc.ID, "identity", c.SHA256)
	if slices.Contains(doc.Certificates, c.SHA256) {
		return uuid
	}
	doc.Credentials = append(doc.Credentials, c)
	doc.Certificates = append(doc.Certificates, c.SHA256)
	pl := planned{Type: typePKCS12, Identifier: doc.Identifier + ".identity." + short(c.SHA256), UUID: uuid,
		DisplayName: identityName(what, c), Credential: c.SHA256,
		Settings: map[string]any{"PayloadCertificateFileName": short(c.SHA256) + ".p12"}}
	if p.mac() {
		pl.Settings["KeyIsExtractable"] = false
	}
	b.Payloads = append(b.Payloads, pl)
	return uuid
}

// payloadUUID depends on neither revision nor device name, and changes when a vanished item is delivered again.
func (p *planner) payloadUUID(docID, purpose, sum string) string {
	if p.user() {
		docID = userPrefix + "." + docID
	}
	return derivedUUID(p.in.Namespace, p.in.UserID, p.in.Device.ID, docID, purpose, sum, fmt.Sprint(p.in.Redeliver[sum]))
}

func identityName(what string, c profiles.Certificate) string {
	of := ""
	if len(c.Addresses) > 0 {
		of = " for " + c.Addresses[0]
	}
	return fmt.Sprintf("%s certificate%s, %s to %s", what, of, c.NotBefore.UTC().Format("2006-01-02"),
		c.NotAfter.UTC().Format("2006-01-02"))
}

func short(sum string) string { return sum[:min(16, len(sum))] }

func hexSHA256(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// planIdentities gives each certificate that no mail account holds a document of its own.
func (p *planner) planIdentities() []platforms.Document {
	var docs []platforms.Document
	for _, o := range p.objs {
		if p.referenced(o.Name) {
			continue
		}
		doc := p.document(docIdentity+o.Name, o.Name)
		switch spec := o.Spec.(type) {
		case *profiles.PKCSCertificate:
			docs = append(docs, p.planIssued(doc, o, spec))
		case *profiles.SCEPCertificate:
			docs = append(docs, p.planSCEP(doc, o.Name))
		case *profiles.PKCSImportedCertificate:
			if spec.IntendedPurpose == profiles.PurposeSMIMESigning {
				docs = append(docs, p.planImportedSigning(doc)...)
			}
		}
	}
	return docs
}

// referenced tells whether a mail account that the device has or will have names the profile.
func (p *planner) referenced(name string) bool {
	return slices.ContainsFunc(p.mails, func(m mail) bool {
		never := m.doc.Reason == platforms.ReasonNotDeliverable || m.doc.Reason == platforms.ReasonDuplicateAccount
		return !never && slices.Contains(m.names, name)
	})
}

func (p *planner) planIssued(doc platforms.Document, o profiles.Object, spec *profiles.PKCSCertificate) platforms.Document {
	c, err := p.issued(o.Name, spec)
	if err != nil {
		return wait(doc, err)
	}
	b := p.body(o.Name)
	p.addIdentity(&doc, &b, c, "Device")
	finish(&doc, b)
	return doc
}

// issued is the device's own certificate of a profile.
func (p *planner) issued(name string, spec *profiles.PKCSCertificate) (profiles.Certificate, error) {
	if c, ok := p.in.Issued[name]; ok {
		return c, nil
	}
	if _, ok := p.in.CAs[spec.CertificateAuthority]; !ok {
		return profiles.Certificate{}, waits(platforms.ReasonCertificateAuthorityUnknown,
			"PKCSCertificate %s: no connector offers the certificate authority %q", name, spec.CertificateAuthority)
	}
	if err := p.checkVariables(name, spec); err != nil {
		return profiles.Certificate{}, err
	}
	return profiles.Certificate{}, waits(platforms.ReasonIssuePending,
		"PKCSCertificate %s: the certificate of this device is not issued yet", name)
}

// checkVariables finds a variable that has no value here before anybody asks the CA (PK-08).
func (p *planner) checkVariables(name string, spec *profiles.PKCSCertificate) error {
	if _, err := profiles.Expand(spec.Subject, p.vars); err != nil {
		return unresolved("PKCSCertificate "+name+": subject", err)
	}
	for _, san := range spec.SubjectAlternativeNames {
		if _, err := profiles.Expand(san.Value, p.vars); err != nil {
			return unresolved("PKCSCertificate "+name+": subject alternative name "+string(san.Type), err)
		}
	}
	return nil
}

// planSCEP has the device ask for a certificate.
func (p *planner) planSCEP(doc platforms.Document, name string) platforms.Document {
	b := p.body(name)
	if _, err := p.addSCEP(&doc, &b, name, "Device"); err != nil {
		return wait(doc, err)
	}
	finish(&doc, b)
	return doc
}

// planImportedSigning delivers the current signing certificate of each of the user's addresses.
func (p *planner) planImportedSigning(doc platforms.Document) []platforms.Document {
	certs := p.imported(profiles.PurposeSMIMESigning)
	b := p.body("Signing certificates of " + p.in.UPN)
	for _, address := range p.addresses() {
		c, ok := profiles.Current(certs, address, p.in.Now)
		if _, taken := p.owner[c.SHA256]; ok && (!taken || p.owner[c.SHA256] == doc.ID) {
			p.addIdentity(&doc, &b, c, "Signing")
		}
	}
	if len(b.Payloads) > 0 {
		finish(&doc, b)
		return []platforms.Document{doc}
	}
	if slices.ContainsFunc(certs, func(c profiles.Certificate) bool { return p.owner[c.SHA256] != "" }) {
		return nil
	}
	return []platforms.Document{wait(doc, p.noneFor(certs, "signing", strings.Join(p.addresses(), ", ")))}
}

// addresses are all that the user has now; without any, the UPN stands in.
func (p *planner) addresses() []string {
	if len(p.in.User.Addresses) > 0 {
		return p.in.User.Addresses
	}
	return []string{p.in.UPN}
}

// noneFor says why no certificate of a purpose fits the address.
func (p *planner) noneFor(certs []profiles.Certificate, purpose, address string) error {
	if len(certs) == 0 {
		return waits(platforms.ReasonCertificateMissing, "%s has no imported %s certificate", p.in.UPN, purpose)
	}
	return waits(platforms.ReasonAddressMismatch, "%s has %d imported %s certificates, none of them for %s",
		p.in.UPN, len(certs), purpose, address)
}

// planCustoms delivers uploaded profiles.
func (p *planner) planCustoms() []platforms.Document {
	var docs []platforms.Document
	for _, o := range p.objs {
		spec, ok := o.Spec.(*profiles.Custom)
		if !ok || !slices.Contains(spec.Platforms, p.in.Device.Platform) || !p.ownScope(spec) {
			continue
		}
		doc := p.document(docCustom+o.Name, o.Name)
		b, err := p.customBody(spec)
		if err != nil {
			docs = append(docs, wait(doc, waits(platforms.ReasonNotDeliverable, "Custom %s: %v", o.Name, err)))
			continue
		}
		finish(&doc, b)
		docs = append(docs, doc)
	}
	return docs
}
