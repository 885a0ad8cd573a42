package interop

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"path"
	"strings"
	"testing"
)

const companionItems = "/agent/v1/items/"

// appDelivery is what one Android device said and was told. Its files, beside those of delivery: wrap.pem and wrap.key (what
// keys are encrypted to), and for each identity SHA256.chain.
type appDelivery struct {
	*delivery
	exchanges []exchange
	aliases   map[string]string // SHA-256 of the certificate, by alias
}

// TestDeliveredToAnAndroidDevice enrols a companion app and opens with foreign programs what came over the wire.
func TestDeliveredToAnAndroidDevice(t *testing.T) {
	d := &appDelivery{delivery: &delivery{house: newHouse(t), device: "phone"}, aliases: map[string]string{}}
	for _, name := range generations {
		d.importPFX(name)
	}
	wire := d.proxy.tap("/agent/v1/")
	link := d.waxctl("enroll", "link", "--user", alice, "--platform", "android")
	d.agent(d.device, nil, "enroll", link, "--platform", "android", "--management-mode", "PROFILE_OWNER", "--os-version", "15", "--ca", d.proxy.CA)
	d.agent(d.device, nil, "sync", "--wait", "60s")
	d.exchanges = wire.taken()
	d.exportWrapKey()
	d.keepRoot()
	d.openEnvelopes()
	for _, tt := range []struct {
		name string
		test func(*appDelivery)
	}{
		{"wrap key", (*appDelivery).checkWrapKey},
		{"every encryption certificate is there", func(d *appDelivery) { d.checkHistory() }},
		{"signing certificate", func(d *appDelivery) { d.checkIssued(d.signing() + ".chain") }},
		{"key pairs", (*appDelivery).checkPairs},
		{"aliases", (*appDelivery).checkAliases},
		{"mail with OpenSSL", func(d *appDelivery) { d.mailOpenSSL() }},
		{"NSS and mail with it", (*appDelivery).checkMailNSS},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(d.within(t)) })
	}
}

// within is the same delivery for a subtest.
func (d *appDelivery) within(t *testing.T) *appDelivery {
	out, inner := *d, *d.delivery
	inner.house = d.house.within(t)
	out.delivery = &inner
	return &out
}

// exportWrapKey takes the wrap key out of the app's storage, as no Keystore would give it.
func (d *appDelivery) exportWrapKey() {
	d.t.Helper()
	var state struct {
		App struct {
			WrapKey   []byte
			Enrolment struct{ Certificate []byte }
		}
	}
	d.json(d.read(d.device, "device.json"), &state)
	d.write("wrap.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: state.App.Enrolment.Certificate}))
	d.write("wrap.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: state.App.WrapKey}))
}

func (d *appDelivery) json(raw []byte, into any) {
	d.t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		d.t.Fatalf("%v:\n%.2000s", err, raw)
	}
}

// answered are the bodies of the answers of a status under a path.
func (d *appDelivery) answered(status int, prefix, suffix string) (out []exchange) {
	for _, x := range d.exchanges {
		if strings.HasPrefix(x.path, prefix) && strings.HasSuffix(x.path, suffix) && x.status == status {
			out = append(out, x)
		}
	}
	return out
}

// keepRoot keeps the CA that the device was told to trust.
func (d *appDelivery) keepRoot() {
	d.t.Helper()
	for _, x := range d.answered(http.StatusOK, "/agent/v1/state", "") {
		var state struct {
			Items []struct {
				Kind string `json:"kind"`
				CA   struct {
					DER []byte `json:"der_b64"`
				} `json:"ca_cert"`
			} `json:"items"`
		}
		d.json(x.reply, &state)
		for _, item := range state.Items {
			if item.Kind == "ca_cert" {
				d.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: item.CA.DER}))
				return
			}
		}
	}
	d.t.Fatalf("no state has a CA\n%s", d.tail())
}

// openEnvelopes opens every envelope that travelled with OpenSSL, and keeps what is in it: PKCS #8 and a chain.
func (d *appDelivery) openEnvelopes() {
	d.t.Helper()
	for _, x := range d.answered(http.StatusOK, companionItems, "/payload") {
		var answer struct {
			Envelope []byte `json:"envelope"`
			Alg      string `json:"alg"`
		}
		d.json(x.reply, &answer)
		if answer.Alg != "CMS" || !strings.HasPrefix(x.replyContentType, "application/json") {
			d.t.Errorf("%s is answered with %s in %s", x.path, answer.Alg, x.replyContentType)
		}
		d.checkSealed(answer.Envelope)
		d.keepSecret(path.Base(path.Dir(x.path)), d.peer(answer.Envelope, "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", "wrap.pem", "-inkey", "wrap.key"))
	}
	if len(d.ids) == 0 {
		d.t.Fatalf("no envelope was delivered\n%s", d.tail())
	}
}

// checkSealed: to the wrap key and to nobody else (android.md section 8.3).
func (d *appDelivery) checkSealed(envelope []byte) {
	d.t.Helper()
	said := string(d.peer(envelope, "openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER"))
	for _, want := range []string{"aes-256-cbc", "d.issuerAndSerialNumber", "rsaEncryption"} {
		if !strings.Contains(said, want) {
			d.t.Errorf("an envelope is not sealed with %s:\n%s", want, said)
		}
	}
	if n := strings.Count(said, "d.ktri"); n != 1 {
		d.t.Errorf("an envelope is sealed to %d recipients, want 1", n)
	}
	der := d.peer(envelope, "openssl", "asn1parse", "-inform", "DER")
	if bytes.Contains(der, []byte("l=inf")) {
		d.t.Error("an envelope is not in DER")
	}
}

// keepSecret writes the parts of a secret as OpenSSL reads them.
func (d *appDelivery) keepSecret(item string, content []byte) {
	d.t.Helper()
	var secret struct {
		Format string   `json:"format"`
		Key    []byte   `json:"key_der_b64"`
		Chain  [][]byte `json:"chain_der_b64"`
		SHA256 string   `json:"cert_sha256"`
		ItemID string   `json:"item_id"`
	}
	d.json(content, &secret)
	if secret.Format != "pkcs8+chain" || secret.ItemID != item || len(secret.Chain) == 0 {
		d.t.Fatalf("the secret of %s is a %s of %s with %d certificates", item, secret.Format, secret.ItemID, len(secret.Chain))
	}
	leaf := d.peer(secret.Chain[0], "openssl", "x509", "-inform", "DER")
	name := d.fingerprint(leaf)
	if name != secret.SHA256 {
		d.t.Errorf("%s says that its certificate is %s, and has %s", item, secret.SHA256, name)
	}
	var chain []byte
	for _, der := range secret.Chain[1:] {
		chain = append(chain, d.peer(der, "openssl", "x509", "-inform", "DER")...)
	}
	d.write(name+".pem", leaf)
	d.write(name+".chain", chain)
	d.write(name+".key", d.peer(secret.Key, "openssl", "pkcs8", "-inform", "DER", "-nocrypt"))
	d.ids = append(d.ids, identity{name: name})
	d.aliases[strings.TrimPrefix(item, "identity:")] = name
}

// checkWrapKey: the certificate is for the key of the request, comes from the device CA, and may be encrypted to.
func (d *appDelivery) checkWrapKey() {
	enrolled := d.answered(http.StatusCreated, "/agent/v1/enroll", "")
	if len(enrolled) != 1 {
		d.t.Fatalf("%d enrolments were recorded, want 1", len(enrolled))
	}
	var request struct {
		WrapKey struct {
			CSR []byte `json:"csr_b64"`
		} `json:"wrap_key"`
	}
	var answer struct {
		Certificate []byte `json:"wrap_certificate_b64"`
	}
	d.json(enrolled[0].request, &request)
	d.json(enrolled[0].reply, &answer)
	_, said, ok := d.try(request.WrapKey.CSR, need(d.t, "openssl"), "req", "-inform", "DER", "-verify", "-noout")
	if !ok || !strings.Contains(string(said), "verify OK") {
		d.t.Errorf("openssl says of the request: %s", said)
	}
	public := d.peer(request.WrapKey.CSR, "openssl", "req", "-inform", "DER", "-noout", "-pubkey")
	for what, got := range map[string][]byte{
		"the certificate on the wire": d.peer(answer.Certificate, "openssl", "x509", "-inform", "DER", "-noout", "-pubkey"),
		"the certificate in the app":  d.peer(nil, "openssl", "x509", "-in", "wrap.pem", "-noout", "-pubkey"),
		"the key in the app":          d.peer(nil, "openssl", "pkey", "-in", "wrap.key", "-pubout"),
	} {
		if !bytes.Equal(got, public) {
			d.t.Errorf("%s has another key than the request", what)
		}
	}
	subject := string(d.peer(nil, "openssl", "x509", "-in", "wrap.pem", "-noout", "-subject", "-nameopt", "multiline"))
	_, name, _ := strings.Cut(subject, "commonName")
	d.deviceCertificate("wrap.pem", "wrap.key", strings.Trim(name, " =\n"))
	d.peer(nil, "openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", d.path("connector", "device-ca.pem"), "wrap.pem")
}

// checkPairs: each key belongs to its certificate, which is there with its issuer; another key opens no envelope.
func (d *appDelivery) checkPairs() {
	for _, id := range d.ids {
		public := d.peer(nil, "openssl", "x509", "-in", id.name+".pem", "-noout", "-pubkey")
		if own := d.peer(nil, "openssl", "pkey", "-in", id.name+".key", "-pubout"); !bytes.Equal(own, public) {
			d.t.Errorf("%s: the key belongs to another certificate", id.name)
		}
		d.peer(nil, "openssl", "pkey", "-in", id.name+".key", "-check", "-noout")
		if len(d.read(id.name+".chain")) > 0 {
			d.peer(nil, "openssl", "verify", "-no_check_time", "-partial_chain", "-CAfile", id.name+".chain", id.name+".pem")
		}
	}
	var answer struct {
		Envelope []byte `json:"envelope"`
	}
	d.json(d.answered(http.StatusOK, companionItems, "/payload")[0].reply, &answer)
	other := d.ids[0].name
	if _, _, ok := d.try(answer.Envelope, need(d.t, "openssl"), "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", other+".pem", "-inkey", other+".key"); ok {
		d.t.Error("an envelope opens with another key than the wrap key")
	}
}

// checkAliases: the app keeps each key under the alias that the server said, and can show it.
func (d *appDelivery) checkAliases() {
	listed := string(d.agent(d.device, nil, "keychain", "list", "--json"))
	for alias, name := range d.aliases {
		if !strings.Contains(listed, `"alias":"`+alias+`"`) || !strings.HasSuffix(alias, "-"+name[:12]) {
			d.t.Errorf("%s is not there under %s", name, alias)
		}
	}
}

// checkMailNSS gives NSS the keys in a PKCS#12 by OpenSSL, since none travelled.
func (d *appDelivery) checkMailNSS() {
	for _, id := range d.ids {
		d.write(id.name+".password", []byte("for NSS only"))
		d.peer(nil, "openssl", "pkcs12", "-export", "-inkey", id.name+".key", "-in", id.name+".pem", "-certfile", id.name+".chain",
			"-out", id.name+".p12", "-passout", "file:"+d.path(id.name+".password"))
	}
	d.checkNSS()
}
