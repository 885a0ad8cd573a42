package apple

import (
	"errors"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// mail is one planned mail document.
type mail struct {
	doc platforms.Document
	// alive: the account is there, or will be once a wait of short duration is over; it keeps its identities.
	alive bool
	// names are the certificate profiles that the account names.
	names []string
	// current is the SHA-256 of the encryption certificate that the account carries.
	current string
}

// account is an Email profile with everything worked out but its certificates.
type account struct {
	name     string
	spec     *profiles.Email
	address  string
	doc      platforms.Document
	body     body
	settings map[string]any
}

// planMails plans each Email profile. Of two with the same address the first by name gets the account.
func (p *planner) planMails() []mail {
	var mails []mail
	holder := map[string]string{}
	for _, o := range p.objs {
		if spec, ok := o.Spec.(*profiles.Email); ok {
			mails = append(mails, p.planMail(o.Name, spec, holder))
		}
	}
	return mails
}

// planMail notes in holder which profile has an address.
func (p *planner) planMail(name string, spec *profiles.Email, holder map[string]string) mail {
	m := mail{doc: p.document(docMail+name, name), names: named(spec)}
	if p.mac() {
		m.doc.Notes = NotOnMac(spec)
	}
	a := &account{name: name, spec: spec, doc: m.doc}
	err := p.fill(a)
	if err == nil {
		if first, taken := holder[strings.ToLower(a.address)]; taken {
			err = waits(platforms.ReasonDuplicateAccount, "Email %s: Email %s already sets up %s on this device", name, first, a.address)
		} else {
			holder[strings.ToLower(a.address)] = name
		}
	}
	if err == nil {
		m.current, err = p.equip(a)
	}
	if m.alive = passing(err); m.alive {
		for _, profile := range a.doc.Challenges {
			p.owner[ownedSCEP(profile)] = m.doc.ID
		}
	}
	if err != nil {
		p.release(m)
		m.doc = wait(m.doc, err)
		return m
	}
	m.doc = a.doc
	finish(&m.doc, a.body)
	return m
}

// ownedSCEP stands in owner for a certificate that is not issued yet. Of each there is one on the device: another document
// would have another issued.
func ownedSCEP(profile string) string { return "scep." + profile }

// passing tells whether a wait is of short duration, so that certificates had better stay where they will be needed.
func passing(err error) bool {
	var why *problem
	if !errors.As(err, &why) {
		return err == nil
	}
	return why.reason == platforms.ReasonIssuePending || why.reason == platforms.ReasonCertificateAuthorityUnknown
}

// release frees the identities of an account that will not come soon: other documents may have them. What the account
// carries on the device already stays its own.
func (p *planner) release(m mail) {
	if m.alive {
		return
	}
	for sum, id := range p.owner {
		if id == m.doc.ID {
			delete(p.owner, sum)
		}
	}
	if installed := p.in.PreviousCurrent[m.doc.ID]; installed != "" {
		p.owner[installed] = m.doc.ID
	}
}

// brings tells whether an encryption certificate is with a mail account, so that history need not hold it: the account has
// it on the device, or can be sent with it now. Reading mail waits for no account: while one waits, or was refused, the
// certificate is in history, and what history has on the device it keeps until the account has it too. At no moment is it
// gone (apple.md section 7.3: deliver the whole history).
func (p *planner) brings(sum string) bool {
	for _, m := range p.mails {
		if p.owner[sum] != m.doc.ID {
			continue
		}
		if p.in.PreviousCurrent[m.doc.ID] == sum {
			return true
		}
		return m.doc.Reason == "" && !p.goes(sum) && !p.in.Stuck[m.doc.ID] && !slices.Contains(p.in.InHistory, sum)
	}
	return false
}

// goes tells whether an account that is not wanted any more has the certificate on the device.
func (p *planner) goes(sum string) bool {
	for id, current := range p.in.PreviousCurrent {
		if current == sum && !slices.ContainsFunc(p.mails, func(m mail) bool { return m.doc.ID == id }) {
			return true
		}
	}
	return false
}

// named lists the certificate profiles that an Email profile names.
func named(spec *profiles.Email) []string {
	var names []string
	if spec.Exchange != nil && spec.Exchange.Authentication == profiles.AuthCertificate {
		names = append(names, spec.Exchange.IdentityCertificate)
	}
	if spec.SMIME != nil && spec.SMIME.Signing.Enabled {
		names = append(names, spec.SMIME.Signing.Certificate)
	}
	if spec.SMIME != nil {
		names = append(names, spec.SMIME.Encryption.Certificate)
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// orderMails makes an account whose encryption certificate changes wait until history, which takes over the old one,
// is confirmed: at no moment is the old one gone. The same goes for an account that takes the place of another one.
func (p *planner) orderMails(history []platforms.Document) []platforms.Document {
	var docs []platforms.Document
	for _, m := range p.mails {
		if sum := p.moves(m); sum != "" && len(history) > 0 && slices.Contains(history[0].Certificates, sum) {
			m.doc.DependsOn = append(m.doc.DependsOn, docHistory)
		}
		docs = append(docs, m.doc)
	}
	return docs
}

// moves is the encryption certificate that sending the account would take away, or that goes with the account before it.
func (p *planner) moves(m mail) string {
	before := p.in.PreviousCurrent[m.doc.ID]
	switch {
	case before == "" && p.goes(m.current):
		return m.current
	case before == m.current:
		return ""
	}
	return before
}

// equip adds the account's certificates and S/MIME keys and completes the payload. It gives the SHA-256 of the
// encryption certificate.
func (p *planner) equip(a *account) (current string, err error) {
	if err := p.equipLogin(a); err != nil {
		return "", err
	}
	if a.spec.SMIME != nil {
		if current, err = p.equipSMIME(a); err != nil {
			return current, err
		}
	}
	payloadType := typeMail
	switch {
	case a.spec.Exchange != nil && p.mac():
		payloadType = typeEWS
	case a.spec.Exchange != nil:
		payloadType = typeEAS
	}
	a.body.Payloads = append(a.body.Payloads, planned{Type: payloadType, Identifier: a.doc.Identifier + ".account",
		UUID: p.payloadUUID(a.doc.ID, "account", ""), DisplayName: a.body.DisplayName, Settings: a.settings})
	return current, nil
}

// equipLogin adds the certificate that the account signs in with.
func (p *planner) equipLogin(a *account) error {
	x := a.spec.Exchange
	if x == nil || x.Authentication != profiles.AuthCertificate {
		return nil
	}
	id, err := p.equipIdentity(a, x.IdentityCertificate, "sign in", "Sign-in", "")
	if err != nil {
		return err
	}
	a.settings["PayloadCertificateUUID"] = id.uuid
	return nil
}

// equipSMIME adds signing and encryption identity. The encryption identity is chosen even when the signing one is
// missing, so that it stays reserved for the account.
func (p *planner) equipSMIME(a *account) (string, error) {
	s := a.spec.SMIME
	encryption, encryptionErr := p.smimeIdentity(a, s.Encryption.Certificate, "encrypt", "Encryption", s.Encryption.WhenMissing)
	signing := identity{omitted: !s.Signing.Enabled}
	var signingErr error
	if s.Signing.Enabled {
		signing, signingErr = p.smimeIdentity(a, s.Signing.Certificate, "sign", "Signing", s.Signing.WhenMissing)
	}
	if p.mac() {
		p.prefer(a, signing, encryption)
	} else {
		setSMIME(a.settings, major(p.in.Device.OSVersion), s, signing, encryption)
	}
	if encryptionErr != nil {
		return encryption.sum, encryptionErr
	}
	return encryption.sum, signingErr
}

// identity is what an S/MIME key names.
type identity struct {
	uuid    string // empty: the user picks
	sum     string
	omitted bool // the certificate is missing, and the profile says to go without
}

// smimeIdentity chooses the certificate and puts it into the document.
func (p *planner) smimeIdentity(a *account, name, verb, what string, missing profiles.Missing) (identity, error) {
	if name == "" {
		return identity{}, nil
	}
	id, err := p.equipIdentity(a, name, verb, what, a.address)
	if err != nil && missing == profiles.MissingOmit {
		return identity{omitted: true}, nil
	}
	return id, err
}

// equipIdentity puts the identity of the named profile into the document: a finished one, or one that the device asks for.
func (p *planner) equipIdentity(a *account, name, verb, what, address string) (identity, error) {
	if o, ok := p.find(name); ok {
		if _, asked := o.Spec.(*profiles.SCEPCertificate); asked {
			if e, ok := p.in.SCEP[name]; ok && address != "" && !names(e.SANs, address) {
				return identity{}, waits(platforms.ReasonAddressMismatch,
					"Email %s: SCEPCertificate %s asks for a certificate without the account's address %s", a.name, name, address)
			}
			if id, taken := p.owner[ownedSCEP(name)]; taken && id != a.doc.ID {
				return identity{}, waits(platforms.ReasonNotDeliverable,
					"Email %s: the certificate of SCEPCertificate %s is in the document %s; each account needs a profile of its own", a.name, name, id)
			}
			uuid, err := p.addSCEP(&a.doc, &a.body, name, what)
			return identity{uuid: uuid}, err
		}
	}
	c, err := p.choose(a, name, verb, address)
	if err != nil {
		return identity{}, err
	}
	return identity{uuid: p.addIdentity(&a.doc, &a.body, c, what), sum: c.SHA256}, nil
}

// names tells whether an address is among the names.
func names(sans []profiles.SubjectAlternativeName, address string) bool {
	return slices.ContainsFunc(sans, func(n profiles.SubjectAlternativeName) bool {
		return n.Type == profiles.SANEmail && strings.EqualFold(n.Value, address)
	})
}

// choose gives the certificate of the named profile that the account shall use (EM-04, EM-08). address is empty if the
// certificate need not carry one.
func (p *planner) choose(a *account, name, verb, address string) (profiles.Certificate, error) {
	o, ok := p.find(name)
	if !ok {
		return profiles.Certificate{}, waits(platforms.ReasonCertificateMissing,
			"Email %s: the profile %s, which it uses to %s, is not assigned to this device", a.name, name, verb)
	}
	c, err := p.chooseFrom(o, a.address)
	if err != nil {
		return profiles.Certificate{}, err
	}
	if address != "" && !carries(c, address) {
		return profiles.Certificate{}, waits(platforms.ReasonAddressMismatch,
			"Email %s: the certificate of %s is for %s, the account's address is %s", a.name, name, list(c.Addresses), address)
	}
	if id, taken := p.owner[c.SHA256]; taken && id != a.doc.ID {
		return profiles.Certificate{}, waits(platforms.ReasonNotDeliverable,
			"Email %s: the certificate of %s is already in the document %s; each account needs one of its own", a.name, name, id)
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

func carries(c profiles.Certificate, address string) bool {
	return slices.ContainsFunc(c.Addresses, func(a string) bool { return strings.EqualFold(a, address) })
}

func list(addresses []string) string {
	if len(addresses) == 0 {
		return "no address"
	}
	return strings.Join(addresses, ", ")
}
