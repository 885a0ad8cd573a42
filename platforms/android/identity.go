package android

import (
	"cmp"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// planHistory delivers every encryption certificate that the user ever had, if a profile asks for them.
func (p *planner) planHistory() []platforms.Document {
	return p.planImported(docHistory, profiles.PurposeSMIMEEncryption, "encryption")
}

// planUnassigned delivers what was imported without a purpose and is in no other document (IM-01, IM-03). The protocol knows
// purposes of mail alone: such a key is taken for one that opens mail.
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
		doc := platforms.Document{ID: id, Profiles: names}
		return []platforms.Document{wait(doc, waits(platforms.ReasonCertificateMissing,
			"PKCSImportedCertificate %s: %s has no imported %s certificate", names[0], p.in.UPN, what))}
	}
	var docs []platforms.Document
	for _, c := range p.currentLast(all) {
		if _, taken := p.owner[c.SHA256]; !taken {
			docs = append(docs, p.identity(id+"."+short(c.SHA256), aliasEncryption, c, names...))
		}
	}
	return docs
}

// currentLast puts the certificates behind that are current for one of the user's addresses (android.md 8.2).
func (p *planner) currentLast(certs []profiles.Certificate) []profiles.Certificate {
	var current, other []profiles.Certificate
	is := map[string]bool{}
	for _, address := range p.addresses() {
		if c, ok := profiles.Current(certs, address, p.in.Now); ok {
			is[c.SHA256] = true
		}
	}
	for _, c := range certs {
		if is[c.SHA256] {
			current = append(current, c)
		} else {
			other = append(other, c)
		}
	}
	return slices.Concat(other, current)
}

// identity is the document of one certificate with its key.
func (p *planner) identity(id, prefix string, c profiles.Certificate, names ...string) platforms.Document {
	alias := aliasOf(prefix, c)
	doc := platforms.Document{ID: id, Identifier: prefixIdentity + alias, Proof: c.SHA256, Profiles: names,
		Credentials: []profiles.Certificate{c}, Certificates: []string{c.SHA256}}
	finish(&doc, companion.Item{Kind: companion.KindIdentity, DependsOn: identifiers(p.trust), Identity: &companion.Identity{
		Purpose: p.purpose(prefix, c), Alias: alias, CertSHA256: c.SHA256, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		UserSelectable: p.selectable(), Payload: companion.PayloadFetch}}, c.SHA256)
	p.owner[c.SHA256] = doc
	return doc
}

// identifiers are the items that can be depended on; a document that waits has none yet.
func identifiers(docs []platforms.Document) []string {
	var out []string
	for _, d := range docs {
		if d.Identifier != "" {
			out = append(out, d.Identifier)
		}
	}
	return out
}

// purpose is what the certificate is for; one that was imported for both is for both.
func (p *planner) purpose(prefix string, c profiles.Certificate) string {
	signs, encrypts := prefix == aliasSigning, prefix == aliasEncryption
	for _, i := range p.in.Imported {
		if i.SHA256 == c.SHA256 {
			signs = signs || i.Purpose == profiles.PurposeSMIMESigning
			encrypts = encrypts || i.Purpose == profiles.PurposeSMIMEEncryption
		}
	}
	switch {
	case signs && encrypts:
		return companion.PurposeBoth
	case signs:
		return companion.PurposeSign
	}
	return companion.PurposeEncrypt
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
		doc := platforms.Document{ID: docIdentity + o.Name, Profiles: []string{o.Name}}
		switch spec := o.Spec.(type) {
		case *profiles.PKCSCertificate:
			docs = append(docs, p.planIssued(doc, o.Name, spec)...)
		case *profiles.SCEPCertificate:
			docs = append(docs, p.planGenerated(doc, o.Name, spec))
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
	return []platforms.Document{p.identity(doc.ID, aliasSigning, c, name)}
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
func (p *planner) checkVariables(what string, spec *profiles.CertificateRequest) error {
	if _, err := profiles.Expand(spec.Subject, p.vars); err != nil {
		return unresolved(what+": subject", err)
	}
	for _, san := range spec.SubjectAlternativeNames {
		if _, err := profiles.Expand(san.Value, p.vars); err != nil {
			return unresolved(what+": subject alternative name "+string(san.Type), err)
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
		docs = append(docs, p.identity(id, aliasSigning, c, name))
	}
	if len(docs) > 0 || slices.ContainsFunc(certs, func(c profiles.Certificate) bool { return p.owner[c.SHA256].ID != "" }) {
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
