package android

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// Ids of documents; after the dot come the start of a certificate's SHA-256 or the name of the admin's profile.
const (
	docTrust    = "trust"
	docHistory  = "history"
	docOthers   = "unassigned"
	docIdentity = "identity."
	docGrant    = "grant."
	docMail     = "mail."
)

// Plan works out the documents of one device, in the order in which they should be sent: CA certificates, what was imported
// without a purpose, the history of encryption certificates from the oldest to the newest, other identities, what mail apps
// may use, the settings of mail apps. A document that must wait is in the list with its reason. Custom profiles are Apple's and have no place here.
//
// Vanished certificates come back under the same alias, so Input.Redeliver changes nothing.
func Plan(in platforms.Input) []platforms.Document {
	p := newPlanner(in)
	trust := p.planTrust()
	p.trust = trust
	keys := slices.Concat(p.planHistory(), p.planIdentities())
	keys = slices.Concat(p.planUnassigned(), keys)
	for i := range keys {
		keys[i].DependsOn = ids(trust)
	}
	return slices.Concat(trust, keys, p.planGrants(keys), p.planMails())
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
	// trust are the documents of CA certificates, which keys depend on.
	trust []platforms.Document
	// apps are the mail apps that may use the keys.
	apps []mailApp
	// owner maps the SHA-256 of a certificate with a key to the document that holds it.
	owner map[string]platforms.Document
	// generated maps the name of a SCEPCertificate profile to the document of the key that the device makes.
	generated map[string]platforms.Document
	// granted maps package and alias to the document that gives the key to the app.
	granted map[string]platforms.Document
}

func newPlanner(in platforms.Input) *planner {
	p := &planner{in: in, objs: slices.Clone(in.Profiles), owner: map[string]platforms.Document{},
		generated: map[string]platforms.Document{}, granted: map[string]platforms.Document{}}
	slices.SortFunc(p.objs, func(a, b profiles.Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	p.vars = profiles.VarsFor(in.UPN, &in.User)
	p.vars.DeviceID, p.vars.DeviceName = in.Device.ID, in.Device.Name
	p.vars.SerialNumber, p.vars.IMEI = in.Device.SerialNumber, in.Device.IMEI
	p.apps = p.mailApps()
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
		spec, ok := o.Spec.(*profiles.TrustedCertificate)
		if !ok {
			continue
		}
		doc, err := p.ca(o.Name, spec)
		if err != nil {
			doc = wait(platforms.Document{ID: docTrust + "." + o.Name}, err)
		}
		at := slices.IndexFunc(docs, func(d platforms.Document) bool { return d.ID == doc.ID })
		if at < 0 {
			at, docs = len(docs), append(docs, doc)
		}
		docs[at].Profiles = append(docs[at].Profiles, o.Name)
	}
	return docs
}

// ca puts a root or an intermediate into the user's store of the managed profile; Android knows no other.
func (p *planner) ca(name string, spec *profiles.TrustedCertificate) (platforms.Document, error) {
	der, err := p.trusted(name, spec)
	if err != nil {
		return platforms.Document{}, err
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return platforms.Document{}, waits(platforms.ReasonNotDeliverable, "TrustedCertificate %s: %v", name, err)
	}
	sum := sha256.Sum256(der)
	sha := hex.EncodeToString(sum[:])
	doc := platforms.Document{ID: docTrust + "." + short(sha), Identifier: prefixCA + sha, Proof: sha, Certificates: []string{sha}}
	finish(&doc, companion.Item{Kind: companion.KindCACert, CACert: &companion.CACert{SHA256: sha, DER: der}}, sha)
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
