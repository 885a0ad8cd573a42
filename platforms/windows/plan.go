package windows

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// Ids of documents; after the dot come the start of a certificate's SHA-256 or the name of the admin's profile.
const (
	docTrust    = "trust"
	docHistory  = "history"
	docOthers   = "unassigned"
	docMail     = "mail."
	docIdentity = "identity."
)

// Plan works out the documents of one PC, in the order in which they should be sent: CA certificates, the history of
// encryption certificates from the oldest to the newest, other identities, what was imported without a purpose, the policies of Outlook. A document that
// must wait is in the list with its reason. Custom profiles are Apple's and have no place here.
//
// One certificate, one node, one document: the CSP tells one thumbprint only (windows.md 4). Vanished certificates come
// back under the same node, so Input.Redeliver changes nothing.
func Plan(in platforms.Input) []platforms.Document {
	p := newPlanner(in)
	trust := p.planTrust()
	keys := slices.Concat(p.planHistory(), p.planIdentities(), p.planUnassigned())
	for i := range keys {
		keys[i].DependsOn = ids(trust)
	}
	return slices.Concat(trust, keys, p.planMails())
}

func ids(docs []platforms.Document) []string {
	var out []string
	for _, d := range docs {
		out = append(out, d.ID)
	}
	return out
}

// planner gathers what the parts of one plan share.
type planner struct {
	in   platforms.Input
	objs []profiles.Object // sorted by kind and name
	vars profiles.Vars
	// owner maps the SHA-256 of a certificate with a key to the document that holds it.
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

// planTrust gives each CA certificate a document, however many profiles name it. One that is not known yet has a
// document as well, named after its profile, so that what needs it waits (TR-05).
func (p *planner) planTrust() []platforms.Document {
	var docs []platforms.Document
	for _, o := range p.objs {
		switch spec := o.Spec.(type) {
		case *profiles.TrustedCertificate:
			der, err := p.trusted(o.Name, spec)
			docs = serve(docs, o, der, err)
		case *profiles.SCEPCertificate: // mail that the PC signs carries them, and nothing else would bring them
			for _, der := range slices.Concat(p.in.SCEP[o.Name].Intermediates, p.in.SCEP[o.Name].Former) {
				docs = serve(docs, o, der, nil)
			}
		}
	}
	return docs
}

// serve lets a CA certificate, or what it waits for, serve a profile.
func serve(docs []platforms.Document, o profiles.Object, der []byte, err error) []platforms.Document {
	var doc platforms.Document
	if err == nil {
		doc, err = trust(o, der)
	}
	if err != nil {
		doc = wait(platforms.Document{ID: docTrust + "." + o.Name}, err)
	}
	at := slices.IndexFunc(docs, func(d platforms.Document) bool { return d.ID == doc.ID })
	if at < 0 {
		at, docs = len(docs), append(docs, doc)
	}
	if !slices.Contains(docs[at].Profiles, o.Name) {
		docs[at].Profiles = append(docs[at].Profiles, o.Name)
	}
	return docs
}

// trust puts a root into the Root store and an intermediate into the CA store (TR-03). A root is one that names itself
// as its issuer; its signature says no more, and old roots are signed with what is no longer checked.
func trust(o profiles.Object, der []byte) (platforms.Document, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return platforms.Document{}, waits(platforms.ReasonNotDeliverable, "%s %s: %v", o.Kind, o.Name, err)
	}
	store := storeCA
	if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
		store = storeRoot
	}
	sum256, sum1 := sha256.Sum256(der), sha1.Sum(der)
	sha := hex.EncodeToString(sum256[:])
	doc := platforms.Document{ID: docTrust + "." + short(sha), Proof: strings.ToUpper(hex.EncodeToString(sum1[:])),
		Certificates: []string{sha}}
	doc.Identifier = store + "/" + doc.Proof
	finish(&doc, body{Nodes: trustNodes(doc.Identifier, der)})
	return doc, nil
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

// planHistory delivers every encryption certificate that the user ever had, if a profile asks for them.
func (p *planner) planHistory() []platforms.Document {
	return p.planImported(docHistory, profiles.PurposeSMIMEEncryption, "encryption")
}

// planUnassigned delivers what was imported without a purpose and is in no other document (IM-01, IM-03).
func (p *planner) planUnassigned() []platforms.Document {
	return p.planImported(docOthers, profiles.PurposeUnassigned, "unassigned")
}

// planImported gives each imported certificate of a purpose its document.
func (p *planner) planImported(id string, purpose profiles.Purpose, what string) []platforms.Document {
	names := p.importing(purpose)
	if len(names) == 0 {
		return nil
	}
	all := p.imported(purpose)
	if len(all) == 0 {
		doc := platforms.Document{ID: id, Profiles: names, UserScope: true}
		return []platforms.Document{wait(doc, waits(platforms.ReasonCertificateMissing,
			"PKCSImportedCertificate %s: %s has no imported %s certificate", names[0], p.in.UPN, what))}
	}
	var docs []platforms.Document
	for _, c := range all {
		if _, taken := p.owner[c.SHA256]; !taken {
			docs = append(docs, p.pfx(id+"."+short(c.SHA256), c, names...))
		}
	}
	return docs
}

// pfx is the document of one certificate with its key.
func (p *planner) pfx(id string, c profiles.Certificate, names ...string) platforms.Document {
	p.owner[c.SHA256] = id
	doc := platforms.Document{ID: id, Identifier: pfxIdentifier(c), Proof: strings.ToUpper(c.SHA1), Profiles: names,
		Credentials: []profiles.Certificate{c}, Certificates: []string{c.SHA256}, UserScope: true}
	finish(&doc, body{Atomic: true, Nodes: pfxNodes(doc.Identifier)})
	return doc
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

func short(sum string) string { return sum[:min(16, len(sum))] }

// planIdentities delivers the certificates that are for signing or for signing in.
func (p *planner) planIdentities() []platforms.Document {
	var docs []platforms.Document
	for _, o := range p.objs {
		doc := platforms.Document{ID: docIdentity + o.Name, Profiles: []string{o.Name}, UserScope: true}
		switch spec := o.Spec.(type) {
		case *profiles.PKCSCertificate:
			docs = append(docs, p.planIssued(doc, o.Name, spec)...)
		case *profiles.SCEPCertificate:
			docs = append(docs, p.planSCEP(doc, o.Name, spec))
		case *profiles.PKCSImportedCertificate:
			if spec.IntendedPurpose == profiles.PurposeSMIMESigning {
				docs = append(docs, p.planImportedSigning(doc, o.Name)...)
			}
		}
	}
	return docs
}

func (p *planner) planIssued(doc platforms.Document, name string, spec *profiles.PKCSCertificate) []platforms.Document {
	c, err := p.issued(name, spec)
	if err != nil {
		return []platforms.Document{wait(doc, err)}
	}
	if _, taken := p.owner[c.SHA256]; taken {
		return nil
	}
	return []platforms.Document{p.pfx(doc.ID, c, name)}
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
	if err := p.checkVariables("PKCSCertificate "+name, &spec.CertificateRequest); err != nil {
		return profiles.Certificate{}, err
	}
	return profiles.Certificate{}, waits(platforms.ReasonIssuePending,
		"PKCSCertificate %s: the certificate of this device is not issued yet", name)
}

// checkVariables finds a variable that has no value here before anybody asks the CA (PK-08).
func (p *planner) checkVariables(whose string, spec *profiles.CertificateRequest) error {
	if _, err := profiles.Expand(spec.Subject, p.vars); err != nil {
		return unresolved(whose+": subject", err)
	}
	for _, san := range spec.SubjectAlternativeNames {
		if _, err := profiles.Expand(san.Value, p.vars); err != nil {
			return unresolved(whose+": subject alternative name "+string(san.Type), err)
		}
	}
	return nil
}

// planImportedSigning delivers the current signing certificate of each of the user's addresses. The one of the first
// address has the plain id, the others that of their address: a newer certificate for it is another revision of the same
// document, and takes the place of the former without a gap.
func (p *planner) planImportedSigning(doc platforms.Document, name string) []platforms.Document {
	certs := p.imported(profiles.PurposeSMIMESigning)
	var docs []platforms.Document
	for _, address := range p.addresses() {
		c, ok := profiles.Current(certs, address, p.in.Now)
		if _, taken := p.owner[c.SHA256]; !ok || taken {
			continue
		}
		id := doc.ID
		if len(docs) > 0 {
			id += "." + strings.ToLower(address)
		}
		docs = append(docs, p.pfx(id, c, name))
	}
	if len(docs) > 0 || slices.ContainsFunc(certs, func(c profiles.Certificate) bool { return p.owner[c.SHA256] != "" }) {
		return docs
	}
	return []platforms.Document{wait(doc, p.noneFor(certs, "signing", strings.Join(p.addresses(), ", ")))}
}

// addresses are all that the user has now and those of the mail accounts, each once; without any, the UPN stands in.
func (p *planner) addresses() []string {
	all := slices.Clone(p.in.User.Addresses)
	for _, o := range p.objs {
		spec, ok := o.Spec.(*profiles.Email)
		if !ok {
			continue
		}
		a, err := p.address(o.Name, spec)
		if err == nil && !slices.ContainsFunc(all, func(b string) bool { return strings.EqualFold(a, b) }) {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return []string{p.in.UPN}
	}
	return all
}

// noneFor says why no certificate of a purpose fits the address.
func (p *planner) noneFor(certs []profiles.Certificate, purpose, address string) error {
	if len(certs) == 0 {
		return waits(platforms.ReasonCertificateMissing, "%s has no imported %s certificate", p.in.UPN, purpose)
	}
	return waits(platforms.ReasonAddressMismatch, "%s has %d imported %s certificates, none of them for %s",
		p.in.UPN, len(certs), purpose, address)
}
