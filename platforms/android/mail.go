package android

import (
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// planMails makes the settings of Email profiles managed configuration of the apps that have any. An app has one for the
// device, so of several Email profiles the first by name gets it. The first app of a profile has the plain id.
func (p *planner) planMails() []platforms.Document {
	var docs []platforms.Document
	holder := map[string]string{}
	for _, o := range p.objs {
		spec, ok := o.Spec.(*profiles.Email)
		if !ok {
			continue
		}
		for i, pkg := range configurable(spec.AndroidApps()) {
			id := docMail + o.Name
			if i > 0 {
				id += "." + pkg
			}
			docs = append(docs, p.mail(id, pkg, o.Name, spec, holder))
		}
	}
	return docs
}

// mail is the document of one app's settings. Only one document has the app's identifier, so that removing another never
// takes the settings away.
func (p *planner) mail(id, pkg, name string, spec *profiles.Email, holder map[string]string) platforms.Document {
	doc := platforms.Document{ID: id, Profiles: []string{name}}
	err := placeable(name, pkg, spec, holder[pkg])
	if err == nil {
		holder[pkg], doc.Identifier, doc.Notes = name, prefixMail+pkg, NotOnAndroid(spec, pkg)
		err = p.fillMail(&doc, pkg, name, spec)
	}
	if err != nil {
		return wait(doc, err)
	}
	return doc
}

func placeable(name, pkg string, spec *profiles.Email, holder string) error {
	switch {
	case pkg == profiles.PackageOutlook && spec.SMIME == nil:
		return waits(platforms.ReasonNotDeliverable,
			"Email %s: it has no S/MIME settings, and in Outlook on Android these are all that is set up", name)
	case pkg == packageGmail && spec.Exchange == nil:
		return waits(platforms.ReasonNotDeliverable, "Email %s: Gmail on Android can be set up for Exchange accounts only", name)
	case holder != "":
		return waits(platforms.ReasonDuplicateAccount,
			"Email %s: Email %s already sets up %s on this device; an app has one set of settings", name, holder, appName(pkg))
	}
	return nil
}

// account is an Email profile while its settings are worked out.
type account struct {
	name, pkg, address string
	spec               *profiles.Email
	// needs are the documents that come first.
	needs []platforms.Document
}

func (p *planner) fillMail(doc *platforms.Document, pkg, name string, spec *profiles.Email) error {
	a := account{name: name, pkg: pkg, spec: spec}
	var err error
	if a.address, err = p.address(name, spec); err != nil {
		return err
	}
	configure := p.outlook
	if pkg == packageGmail {
		configure = p.gmail
	}
	values, err := configure(&a)
	if err != nil {
		return err
	}
	doc.DependsOn = ids(a.needs)
	finish(doc, companion.Item{Kind: companion.KindMailConfig, DependsOn: identifiers(a.needs),
		MailConfig: &companion.MailConfig{Package: pkg, Values: values}}, string(encode(values)))
	doc.Proof = doc.Revision
	return nil
}

// address is the one that the account has.
func (p *planner) address(name string, spec *profiles.Email) (string, error) {
	return p.source(name, "addressSource", spec.AddressSource)
}

// source gives the value of an address source.
func (p *planner) source(name, field string, s profiles.AddressSource) (string, error) {
	template := "{{EmailAddress}}"
	switch s {
	case profiles.SourceUserPrincipalName:
		template = "{{UserPrincipalName}}"
	case profiles.SourceSAMAccountName:
		template = "{{OnPremisesSamAccountName}}"
	}
	return p.expand(name, field, template)
}

func (p *planner) expand(name, field, template string) (string, error) {
	v, err := profiles.Expand(template, p.vars)
	if err != nil {
		return "", unresolved("Email "+name+": "+field, err)
	}
	return v, nil
}

// require makes the account depend on the key that the named profile gives it: the app finds it by itself among the keys
// that it was given, and without it the settings would only break sending. omitted: the key is missing, and the profile says
// to go without.
func (p *planner) require(a *account, name, verb string, missing profiles.Missing) (omitted bool, err error) {
	if name == "" {
		return false, nil
	}
	key, err := p.bringer(a, name, verb)
	if err != nil && missing == profiles.MissingOmit {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	p.need(a, key)
	return false, nil
}

// need makes the account depend on the app's grant of a key, or on the key if there is no such grant.
func (p *planner) need(a *account, key platforms.Document) (alias string) {
	if key.Identifier == "" {
		return ""
	}
	alias = strings.TrimPrefix(key.Identifier, prefixIdentity)
	doc, ok := p.granted[grantIdentifier(a.pkg, alias)]
	if !ok {
		doc = key
	}
	if !slices.Contains(ids(a.needs), doc.ID) {
		a.needs = append(a.needs, doc)
	}
	return alias
}

// bringer is the document of the key that the account shall use (EM-04, EM-08).
func (p *planner) bringer(a *account, name, verb string) (platforms.Document, error) {
	if o, ok := p.find(name); ok {
		if spec, generates := o.Spec.(*profiles.SCEPCertificate); generates {
			return p.generated[name], p.generatedFor(a, name, spec)
		}
	}
	c, err := p.choose(a, name, verb)
	return p.owner[c.SHA256], err
}

// signsIn is the document of the key that the app signs in with; the address in its certificate does not matter.
func (p *planner) signsIn(a *account, name string) (platforms.Document, error) {
	if o, ok := p.find(name); ok {
		if spec, generates := o.Spec.(*profiles.SCEPCertificate); generates {
			_, err := p.enrolment(name, spec)
			return p.generated[name], err
		}
	}
	c, err := p.chooseFrom(a, name, "sign in")
	return p.owner[c.SHA256], err
}

// choose gives the certificate of the named profile that the account shall use (EM-04, EM-08).
func (p *planner) choose(a *account, name, verb string) (profiles.Certificate, error) {
	c, err := p.chooseFrom(a, name, verb)
	if err != nil {
		return profiles.Certificate{}, err
	}
	if !slices.ContainsFunc(c.Addresses, func(b string) bool { return strings.EqualFold(a.address, b) }) {
		return profiles.Certificate{}, waits(platforms.ReasonAddressMismatch,
			"Email %s: the certificate of %s is for %s, the account's address is %s", a.name, name, list(c.Addresses), a.address)
	}
	return c, nil
}

func (p *planner) chooseFrom(a *account, name, verb string) (profiles.Certificate, error) {
	o, ok := p.find(name)
	if !ok {
		return profiles.Certificate{}, waits(platforms.ReasonCertificateMissing,
			"Email %s: the profile %s, which it uses to %s, is not assigned to this device", a.name, name, verb)
	}
	switch spec := o.Spec.(type) {
	case *profiles.PKCSCertificate:
		return p.issued(o.Name, spec)
	case *profiles.PKCSImportedCertificate:
		certs := p.imported(spec.IntendedPurpose)
		c, ok := profiles.Current(certs, a.address, p.in.Now)
		if !ok {
			return c, p.noneFor(certs, purposeWord(spec.IntendedPurpose), a.address)
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
