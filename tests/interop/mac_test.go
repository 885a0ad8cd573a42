package interop

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	kindIdentityPreference    = "com.apple.security.identitypreference"
	kindCertificatePreference = "com.apple.security.certificatepreference"
)

// macDelivery is what one Mac got on its two channels.
type macDelivery struct {
	*delivery
	system, user []document // by the channel that they came by
}

// TestDeliveredToAMac enrols a Mac and opens with foreign programs what came over the wire to the Mac and to its user.
func TestDeliveredToAMac(t *testing.T) {
	d := &macDelivery{delivery: &delivery{house: newHouse(t), device: "mac", flavour: tripleDES}}
	for _, name := range generations {
		d.importPFX(name)
	}
	wire := d.proxy.tap("/mdm/apple/")
	link := d.waxctl("enroll", "link", "--user", alice, "--platform", "macos")
	d.agent(d.device, nil, "enroll", link, "--platform", "macos", "--ca", d.proxy.CA, "--os-version", "15.1", "--model", "Mac15,12")
	d.agent(d.device, nil, "sync", "--wait", "60s")
	d.exportIdentity()
	d.openChannels(wire.taken())
	for _, tt := range []struct {
		name string
		test func(*macDelivery)
	}{
		{"channels", (*macDelivery).checkChannels},
		{"preferences name identities", (*macDelivery).checkPreferences},
		{"every encryption certificate is there", func(d *macDelivery) { d.checkHistory() }},
		{"signing certificate", func(d *macDelivery) { d.checkIssued(d.signing() + ".pem") }},
		{"OpenSSL", func(d *macDelivery) { d.checkOpenSSL() }},
		{"gpgsm", func(d *macDelivery) { d.checkGpgsm() }},
		{"mail with OpenSSL", func(d *macDelivery) { d.mailOpenSSL() }},
		{"NSS and mail with it", func(d *macDelivery) { d.checkNSS() }},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(d.within(t)) })
	}
}

// within is the same delivery for a subtest.
func (d *macDelivery) within(t *testing.T) *macDelivery {
	out, inner := *d, *d.delivery
	inner.house = d.house.within(t)
	out.delivery = &inner
	return &out
}

// openChannels opens every profile that travelled. A message of the user channel says who the user is.
func (d *macDelivery) openChannels(exchanges []exchange) {
	d.t.Helper()
	for n, x := range exchanges {
		if len(x.reply) == 0 || len(x.request) == 0 || !bytes.Contains(x.reply, []byte("InstallProfile")) {
			continue
		}
		command, _ := d.dictionary(x.reply)["Command"].(dict)
		if text(command, "RequestType") != "InstallProfile" {
			continue
		}
		signed := d.data(command, "Payload")
		d.openDocument(fmt.Sprintf("document-%d", n), signed)
		d.openAgain(signed)
		doc := d.documents[len(d.documents)-1]
		if text(d.dictionary(x.request), "UserID") != "" {
			d.user = append(d.user, doc)
		} else {
			d.system = append(d.system, doc)
		}
	}
	if len(d.system) == 0 || len(d.user) < 2 {
		d.t.Fatalf("%d profiles came by the device channel and %d by the user channel\n%s", len(d.system), len(d.user), d.tail())
	}
}

// openAgain: the older command of OpenSSL reads the signature and what is encrypted to the same bytes.
func (d *macDelivery) openAgain(signed []byte) {
	d.t.Helper()
	outer := d.peer(signed, "openssl", "smime", "-verify", "-noverify", "-binary", "-inform", "DER")
	top := d.dictionary(outer)
	if top["EncryptedPayloadContent"] == nil {
		return
	}
	sealed := d.data(top, "EncryptedPayloadContent")
	recipient := []string{"-decrypt", "-binary", "-inform", "DER", "-recip", "device.pem", "-inkey", "device.key"}
	one := d.peer(sealed, "openssl", append([]string{"smime"}, recipient...)...)
	if two := d.peer(sealed, "openssl", append([]string{"cms"}, recipient...)...); !bytes.Equal(one, two) {
		d.t.Error("openssl smime and openssl cms open a profile to different contents")
	}
	said := string(d.peer(sealed, "openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER"))
	for _, want := range []string{"aes-256-cbc", "d.issuerAndSerialNumber", "rsaEncryption"} {
		if !strings.Contains(said, want) {
			d.t.Errorf("a profile is not sealed with %s:\n%s", want, said)
		}
	}
	if n := strings.Count(said, "d.ktri"); n != 1 {
		d.t.Errorf("a profile is sealed to %d recipients, want 1", n)
	}
}

// checkChannels: CAs belong to the Mac; keys and what names them belong to its user (apple.md sections 1.2 and 5.1).
func (d *macDelivery) checkChannels() {
	for scope, documents := range map[string][]document{"System": d.system, "User": d.user} {
		for _, doc := range documents {
			if text(doc.top, "PayloadScope") != scope {
				d.t.Errorf("%s has the PayloadScope %q and came by the channel of %s", text(doc.top, "PayloadIdentifier"), text(doc.top, "PayloadScope"), scope)
			}
		}
	}
	for _, doc := range d.system {
		for _, p := range doc.payloads {
			if kind := text(p, "PayloadType"); kind == kindPKCS12 || strings.HasSuffix(kind, "preference") {
				d.t.Errorf("%s with a %s came by the device channel", text(doc.top, "PayloadIdentifier"), kind)
			}
		}
	}
}

// checkPreferences: the user's address leads to the signing identity and to the current encryption certificate, each in the
// profile that says so (apple.md section 5.9).
func (d *macDelivery) checkPreferences() {
	for kind, want := range map[string]string{kindIdentityPreference: d.signing(), kindCertificatePreference: d.sha256Of("alice-2024")} {
		found := 0
		for _, doc := range d.user {
			for _, p := range payloads(asAny(doc.payloads), kind) {
				found++
				i := slices.IndexFunc(d.ids, func(i identity) bool { return i.uuid == text(p, "PayloadCertificateUUID") })
				if text(p, "Name") != alice || i < 0 || d.ids[i].name != want {
					d.t.Errorf("%s of %q names %q, which is not identity %s", kind, text(p, "Name"), text(p, "PayloadCertificateUUID"), want)
				}
				if !slices.ContainsFunc(doc.payloads, func(o dict) bool { return o["PayloadUUID"] == p["PayloadCertificateUUID"] }) {
					d.t.Errorf("%s names a payload of another profile", kind)
				}
			}
		}
		if found != 1 {
			d.t.Errorf("%d payloads %s were delivered, want 1", found, kind)
		}
	}
}

// checkIssued: the certificate signs mail of the user's, by a chain that came with it, under the root that the device was told
// to trust and no other.
func (d *delivery) checkIssued(chain string) {
	d.t.Helper()
	cert := d.signing() + ".pem"
	verify := []string{"verify", "-x509_strict", "-purpose", "smimesign", "-verify_email", alice, "-untrusted", chain, "-CAfile"}
	d.peer(nil, "openssl", append(verify, "root.pem", cert)...)
	if _, _, ok := d.try(nil, need(d.t, "openssl"), append(verify, d.path("connector", "device-ca.pem"), cert)...); ok {
		d.t.Error("the signing certificate comes from the device CA")
	}
}
