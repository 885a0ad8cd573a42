package csp

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// Certificate is a certificate in a store.
type Certificate struct {
	Cert *x509.Certificate
	// Key is nil when the PC has the certificate alone.
	Key crypto.Signer
	// ID is the UniqueID of the node that brought it, or its SHA-1.
	ID           string
	FriendlyName string
}

// Certificates are those of one store, in the order in which they came: "User/My", "Device/My", "Device/Root",
// "Device/CA", "User/CA" and so on. A store holds a certificate once, however many nodes brought it.
func (p *PC) Certificates(store string) []Certificate {
	var out []Certificate
	for _, e := range p.state.certs {
		twice := slices.ContainsFunc(out, func(c Certificate) bool { return c.Cert.Equal(e.cert) })
		if strings.EqualFold(e.store, store) && !twice {
			out = append(out, Certificate{Cert: e.cert, Key: e.key, ID: e.id, FriendlyName: e.friendly})
		}
	}
	return out
}

// Stores are the names of the stores that hold something, in alphabetical order.
func (p *PC) Stores() []string {
	var out []string
	for _, e := range p.state.certs {
		if !slices.Contains(out, e.store) {
			out = append(out, e.store)
		}
	}
	slices.Sort(out)
	return out
}

// DeleteCertificate is what a user does in the certificate manager: the certificate goes from every store, with its key.
// Whether its CSP node goes too, Rules.KeepNode says.
func (p *PC) DeleteCertificate(sha1OrSha256 string) error {
	hash := strings.Join(strings.Fields(sha1OrSha256), "")
	var owners []string
	p.state.certs = slices.DeleteFunc(p.state.certs, func(e entry) bool {
		if named(e.cert, hash) {
			owners = append(owners, e.owner)
			return true
		}
		return false
	})
	if len(owners) == 0 {
		return fmt.Errorf("deleting a certificate: no store holds one with the fingerprint %q; give its SHA-1 or SHA-256 in hex", hash)
	}
	for _, owner := range owners {
		if owner == "" || p.cfg.Rules.KeepNode {
			continue
		}
		p.prune(owner)
		p.disown(owner) // the chain that came along
	}
	return nil
}

// AddProvisioned puts a certificate into a store that the provisioning document of the enrolment brought.
func (p *PC) AddProvisioned(store string, cert *x509.Certificate) {
	held := func(e entry) bool { return e.store == store && e.owner == "" && e.cert.Equal(cert) }
	if !slices.ContainsFunc(p.state.certs, held) {
		p.state.certs = append(p.state.certs, entry{store: store, id: thumbprint(cert), cert: cert})
	}
}

// disown drops the certificates that a node brought.
func (p *PC) disown(key string) {
	p.state.certs = slices.DeleteFunc(p.state.certs, func(e entry) bool { return e.owner == key })
}

// own puts an identity with its chain into the stores of a scope, in place of what the node brought before. Issuers go
// where Windows looks for intermediates; a root in a PFX makes nobody trust it.
func (p *PC) own(l place, e entry, chain []*x509.Certificate) {
	e.owner, e.id, e.store = l.key(), l.names[len(l.names)-1], l.scope+"/My"
	p.disown(e.owner)
	p.state.certs = append(p.state.certs, e)
	for _, issuer := range chain {
		if issuer.CheckSignatureFrom(issuer) != nil {
			p.state.certs = append(p.state.certs, entry{store: l.scope + "/CA", owner: e.owner, id: thumbprint(issuer), cert: issuer})
		}
	}
}

// owned is the identity that a node brought.
func (p *PC) owned(l place) (entry, bool) {
	at := slices.IndexFunc(p.state.certs, func(e entry) bool { return e.owner == l.key() && e.key != nil })
	if at < 0 {
		return entry{}, false
	}
	return p.state.certs[at], true
}

// inStore finds a certificate by store and SHA-1.
func (p *PC) inStore(store, hash string) (entry, bool) {
	at := slices.IndexFunc(p.state.certs, func(e entry) bool { return e.store == store && strings.EqualFold(thumbprint(e.cert), hash) })
	if at < 0 {
		return entry{}, false
	}
	return p.state.certs[at], true
}

// rootCertificates is RootCATrustedCertificates (windows.md section 3.3). Root is the device's alone.
func rootCertificates() *provider {
	c := &provider{root: microsoft("RootCATrustedCertificates"), scopes: "UD"}
	for _, name := range []string{"Root", "CA", "TrustedPublisher", "TrustedPeople", "UntrustedCertificates", "OemEsim"} {
		rows := storeRows(name, func(l place) string { return l.scope + "/" + name })
		if name == "Root" || name == "OemEsim" {
			for n := range rows {
				rows[n].scopes = "D"
			}
		}
		c.rows = append(c.rows, rows...)
	}
	return c
}

// storeRows are the nodes of a store. They are not stored: they are the certificates themselves.
func storeRows(path string, store func(place) string) []row {
	known := func(name string, of func(*x509.Certificate) string) row {
		return row{path: path + "/*/" + name, access: "G", format: formatChr, read: func(p *PC, l place) (string, bool) {
			e, ok := p.inStore(store(l), l.names[len(l.names)-2])
			if !ok {
				return "", false
			}
			return of(e.cert), true
		}}
	}
	encoded := known("EncodedCertificate", func(c *x509.Certificate) string { return encodeBase64(c.Raw) })
	encoded.access, encoded.format = "AGR", formatB64
	encoded.write = func(t *transaction, l place, value string) outcome { return t.pc.trust(l, store(l), value) }
	return []row{
		{path: path + "/*", access: "DG", format: formatNode,
			names: func(p *PC, l place) []string { return p.hashes(store(l)) },
			gone:  func(p *PC, l place) { p.distrust(store(l), l.names[len(l.names)-1]) }},
		encoded,
		known("IssuedBy", func(c *x509.Certificate) string { return c.Issuer.CommonName }),
		known("IssuedTo", func(c *x509.Certificate) string { return c.Subject.CommonName }),
		known("ValidFrom", func(c *x509.Certificate) string { return c.NotBefore.UTC().Format(time.RFC3339) }),
		known("ValidTo", func(c *x509.Certificate) string { return c.NotAfter.UTC().Format(time.RFC3339) }),
		known("TemplateName", func(*x509.Certificate) string { return "" }),
	}
}

func (p *PC) hashes(store string) []string {
	var out []string
	for _, e := range p.state.certs {
		if e.store == store {
			out = append(out, thumbprint(e.cert))
		}
	}
	return out
}

// trust takes a certificate into a store. The node must be named by its SHA-1.
func (p *PC) trust(l place, store, value string) outcome {
	raw, _ := oneLine(value)
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return fail(syncml.StatusFailed, winBadASN1)
	}
	hash := l.up(len(l.names) - 1)
	if !strings.EqualFold(thumbprint(cert), hash.names[len(hash.names)-1]) {
		return fail(syncml.StatusBadRequest, errInvalidArgument)
	}
	if _, ok := p.inStore(store, thumbprint(cert)); !ok {
		p.state.certs = append(p.state.certs, entry{store: store, owner: hash.key(), id: thumbprint(cert), cert: cert})
	}
	return outcome{}
}

func (p *PC) distrust(store, hash string) {
	p.state.certs = slices.DeleteFunc(p.state.certs, func(e entry) bool {
		return e.store == store && strings.EqualFold(thumbprint(e.cert), hash)
	})
}

// certificateStore is CertificateStore (windows.md section 3.4): the same stores under other names, and the renewal of the
// MDM certificate. Its deprecated SCEP node is not there.
func certificateStore() *provider {
	c := &provider{root: microsoft("CertificateStore"), scopes: "D"}
	in := func(store string) func(place) string { return func(place) string { return store } }
	c.rows = append(c.rows, storeRows("ROOT/System", in("Device/Root"))...)
	c.rows = append(c.rows, storeRows("ROOT", in("Device/Root"))...)
	c.rows = append(c.rows, storeRows("CA/System", in("Device/CA"))...)
	c.rows = append(c.rows, storeRows("CA", in("Device/CA"))...)
	c.rows = append(c.rows, storeRows("MY/User", in("User/My"))...)
	c.rows = append(c.rows, storeRows("MY/System", in("Device/My"))...)
	c.rows = append(c.rows, renewalRows()...)
	return c
}

func renewalRows() []row {
	const renew = "MY/WSTEP/Renew/"
	return []row{
		{path: "MY/WSTEP/CertThumprint", access: "G", format: formatChr, read: (*PC).clientThumbprint},
		{path: renew + "RenewPeriod", access: "AGR", format: formatInt, initial: "42", atomic: true, check: between(1, 1000)},
		{path: renew + "RetryInterval", access: "AGR", format: formatInt, initial: "7", atomic: true, check: between(1, 1000)},
		{path: renew + "ROBOSupport", access: "AGR", format: formatBool, initial: "true", atomic: true},
		{path: renew + "ServerURL", access: "AGR", format: formatChr, atomic: true},
		{path: renew + "RetryAfterExpiryInterval", access: "AGR", format: formatInt, atomic: true, check: between(1, 1000)},
		{path: renew + "Status", access: "G", format: formatInt, initial: "0"},
		{path: renew + "ErrorCode", access: "G", format: formatInt, initial: "0"},
		{path: renew + "LastRenewalAttemptTime", access: "G", format: "time"},
		{path: renew + "RenewNow", access: "X", format: formatNull, exec: func(t *transaction, _ place, _ string) outcome {
			t.effects.Renew = true
			return outcome{}
		}},
	}
}

// clientThumbprint is the MDM certificate's: the last that provisioning brought into a store of personal certificates.
func (p *PC) clientThumbprint(place) (string, bool) {
	for _, e := range slices.Backward(p.state.certs) {
		if e.owner == "" && strings.HasSuffix(e.store, "/My") {
			return thumbprint(e.cert), true
		}
	}
	return "", false
}
