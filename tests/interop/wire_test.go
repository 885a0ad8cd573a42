package interop

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// token is the BinarySecurityToken in the body of a message of the enrolment service.
func (d *pcDelivery) token(action string) []byte {
	d.t.Helper()
	for _, m := range d.soap {
		if strings.HasSuffix(m.at("Header", "Action").value(), action) {
			tokens := m.at("Body").find("BinarySecurityToken")
			if len(tokens) != 1 {
				d.t.Fatalf("%s has %d tokens in its body, want 1", action, len(tokens))
			}
			return d.base64(tokens[0].Text)
		}
	}
	d.t.Fatalf("no message with the action %s was recorded", action)
	return nil
}

// checkRequest: OpenSSL verifies the PC's PKCS#10, and the certificate is for its key.
func (d *pcDelivery) checkRequest() {
	csr := d.token("/RST/wstep")
	verify := func(der []byte) (public, said string) {
		out, errs, _ := d.try(der, need(d.t, "openssl"), "req", "-inform", "DER", "-verify", "-noout", "-pubkey")
		return string(out), string(errs)
	}
	public, said := verify(csr)
	if !strings.Contains(said, "verify OK") {
		d.t.Errorf("openssl says of the request: %s", said)
	}
	csr[len(csr)-1] ^= 1
	if _, said := verify(csr); strings.Contains(said, "verify OK") {
		d.t.Error("openssl verifies a changed request")
	}
	csr[len(csr)-1] ^= 1
	if own := string(d.peer(nil, "openssl", "x509", "-in", "mdm.pem", "-noout", "-pubkey")); own != public {
		d.t.Error("the certificate of the PC is for another key than its request")
	}
	text := string(d.peer(csr, "openssl", "req", "-inform", "DER", "-noout", "-text"))
	for _, want := range []string{"2048 bit", "sha256WithRSAEncryption", "TLS Web Client Authentication", "1.3.6.1.4.1.311.66.1.0"} {
		if !strings.Contains(text, want) {
			d.t.Errorf("the request has no %s:\n%s", want, text)
		}
	}
}

// checkProvisioning: the certificate that the PC got over the wire is good for signing in and for decrypting, comes from the
// root beside it, and is the one that Windows will look for.
func (d *pcDelivery) checkProvisioning() {
	d.write("provisioning.xml", d.token("/RSTRC/wstep"))
	doc := d.trees([]string{"provisioning.xml"})[0]
	certificate := func(store ...string) string {
		at := characteristic(doc, append([]string{"CertificateStore"}, store...)...)
		held := at.all("characteristic")
		if len(held) == 0 {
			d.t.Fatalf("the document has no certificate in %q", store)
		}
		der := d.base64(parm(held[0], "EncodedCertificate"))
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	d.write("device-root.pem", []byte(certificate("Root", "System")))
	d.write("client.pem", []byte(certificate("My", "User")))
	application := characteristic(doc, "APPLICATION")
	criteria, err := url.ParseQuery(parm(application, "SSLCLIENTCERTSEARCHCRITERIA"))
	if err != nil || criteria.Get("Stores") != `My\User` {
		d.t.Errorf("the search criteria are %q (%v)", parm(application, "SSLCLIENTCERTSEARCHCRITERIA"), err)
	}
	name, _ := strings.CutPrefix(criteria.Get("Subject"), "CN=")
	d.deviceCertificate("client.pem", "mdm.key", name)
	d.peer(nil, "openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "device-root.pem", "client.pem")
	if address := parm(application, "ADDR"); address != d.proxy.URL+managementPath {
		d.t.Errorf("ADDR is %s", address)
	}
}

// characteristic follows the types of characteristics.
func characteristic(e element, path ...string) element {
	for _, kind := range path {
		i := slices.IndexFunc(e.Children, func(c element) bool { return c.Name == "characteristic" && c.Attrs["type"] == kind })
		if i < 0 {
			return element{}
		}
		e = e.Children[i]
	}
	return e
}

func parm(e element, name string) string {
	for _, p := range e.all("parm") {
		if p.Attrs["name"] == name {
			return p.Attrs["value"]
		}
	}
	return ""
}

// checkSignatures: OpenSSL verifies MDM-Signature, which every message of the PC carries, over the whole message.
func (d *pcDelivery) checkSignatures() {
	checked := 0
	for n, x := range d.exchanges {
		if x.path != managementPath {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(x.header.Get("MDM-Signature"))
		if err != nil || len(signature) == 0 {
			d.t.Fatalf("message %d has no MDM-Signature (%v)", n, err)
		}
		if checked++; checked > 4 { // the others are made alike
			continue
		}
		message := fmt.Sprintf("message-%d-request.xml", n)
		verify := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", d.write("signature", signature), "-purpose", "sslclient",
			"-CAfile", d.path("connector", "device-ca.pem"), "-signer", "signer.pem", "-content"}
		d.peer(nil, "openssl", append(verify, message)...)
		if signer, own := d.fingerprint(d.read("signer.pem")), d.fingerprint(d.read("mdm.pem")); signer != own {
			d.t.Errorf("message %d is signed by %s, the PC is %s", n, signer, own)
		}
		d.write("changed", append(d.read(message), ' '))
		if _, _, ok := d.try(nil, need(d.t, "openssl"), append(verify, "changed")...); ok {
			d.t.Error("openssl verifies a message that was made longer")
		}
		said := string(d.peer(signature, "openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER"))
		if !strings.Contains(said, "signingTime") || !strings.Contains(said, "sha256") {
			d.t.Errorf("the signature has no signing time or is not by SHA-256:\n%s", said)
		}
	}
	if checked < 4 {
		d.t.Errorf("%d signed messages were recorded", checked)
	}
}

// checkADMX: the file that the server sends is XML of its schema, and each policy that is set stands in it.
func (d *pcDelivery) checkADMX() {
	var policies []add
	var admx element
	for _, m := range d.syncml {
		for _, c := range m.at("SyncBody").all("Add") {
			switch a := addOf(c); {
			case strings.Contains(a.uri, "/ADMXInstall/"):
				d.write("outlook.admx", []byte(a.data))
				admx = d.trees([]string{"outlook.admx"})[0]
			case strings.Contains(a.uri, "/Policy/Config/"):
				d.write("policy.xml", []byte("<policy>"+a.data+"</policy>"))
				d.trees([]string{"policy.xml"})
				policies = append(policies, a)
			}
		}
	}
	defined := admx.at("policies").all("policy")
	if admx.Name != "policyDefinitions" || len(defined) == 0 || len(policies) == 0 {
		d.t.Fatalf("the ADMX is a %q with %d policies; %d are set", admx.Name, len(defined), len(policies))
	}
	for _, p := range policies {
		i := slices.IndexFunc(defined, func(e element) bool { return e.Attrs["name"] == path.Base(p.uri) })
		if i < 0 || defined[i].Attrs["class"] != "User" || !strings.HasPrefix(defined[i].Attrs["key"], `Software\Policies\Microsoft\Office\`) {
			d.t.Errorf("%s is set, which the ADMX does not define for the user of Office", p.uri)
			continue
		}
		category := defined[i].at("parentCategory").Attrs["ref"]
		if area := path.Base(path.Dir(p.uri)); !strings.HasSuffix(area, "~Policy~"+category) || !strings.HasPrefix(p.uri, "./User/") {
			d.t.Errorf("%s is not in the category %s", p.uri, category)
		}
	}
}
