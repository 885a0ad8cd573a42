package windows

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

func historyOf2018(t testing.TB) platforms.Document {
	t.Helper()
	return byID(t, Plan(sales(t)), history(enc("2018", 0, 0)))
}

func TestRenderedDocumentsAreWhatWasAskedFor(t *testing.T) {
	for _, d := range Plan(sales(t)) {
		if err := CheckRendered(d, rendering(t, d)); err != nil {
			t.Errorf("%s: %v", d.ID, err)
		}
	}
}

// TestPK03KeysStayOnThePC: no key that is delivered can be taken out, whatever the profile that brings it.
func TestPK03KeysStayOnThePC(t *testing.T) {
	keys := 0
	for _, d := range Plan(sales(t)) {
		var r rendered
		if err := json.Unmarshal(rendering(t, d), &r); err != nil {
			t.Fatal(err)
		}
		said := map[string]string{}
		for _, n := range r.Nodes {
			said[n.LocURI[strings.LastIndex(n.LocURI, "/")+1:]] = n.Data
		}
		if _, has := said["PFXCertBlob"]; !has {
			continue
		}
		if keys++; said["PFXKeyExportable"] != "false" {
			t.Errorf("%s: %v", d.ID, said["PFXKeyExportable"])
		}
	}
	if keys < 2 {
		t.Errorf("only %d documents with keys", keys)
	}
}

// The password is readable by the PC alone, and the payload holds it in no other form.
func TestPasswordIsSealedToThePC(t *testing.T) {
	doc, device := historyOf2018(t), pc(t)
	payload, err := Render(doc, pkcs12s(doc), sealTo(device.Cert))
	if err != nil {
		t.Fatal(err)
	}
	for _, clear := range [][]byte{[]byte(password), []byte(base64.StdEncoding.EncodeToString([]byte(password))),
		[]byte(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(password)), "="))} {
		if bytes.Contains(payload, clear) {
			t.Errorf("the payload holds %q", clear)
		}
	}
	var r rendered
	if err := json.Unmarshal(payload, &r); err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(r.Nodes[2].Data)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := cms.Decrypt(sealed, device.Cert, device.Key)
	if err != nil || string(plain) != password {
		t.Errorf("the PC reads %q, %v", plain, err)
	}
	if blob, _ := base64.StdEncoding.DecodeString(r.Nodes[4].Data); string(blob) != "pkcs12 of 2018" {
		t.Errorf("blob %q", blob)
	}
}

func TestRenderRefuses(t *testing.T) {
	doc, seal := historyOf2018(t), sealTo(pc(t).Cert)
	bent := func(change func(*body)) platforms.Document {
		b, err := decodeBody(doc)
		if err != nil {
			t.Fatal(err)
		}
		change(&b)
		d := doc
		d.Body = encodeBody(b)
		return d
	}
	waiting := wait(doc, errors.New("no"))
	bare, two, elsewhere, other := doc, doc, doc, doc
	bare.Credentials = nil
	two.Credentials = append(two.Credentials, enc("2020", 0, 0))
	elsewhere.Identifier = devicePFX + "/" + doc.Proof
	other.Credentials = []profiles.Certificate{enc("2020", 0, 0)}
	cases := []struct {
		name  string
		doc   platforms.Document
		creds map[string]platforms.PKCS12
		seal  func([]byte) ([]byte, error)
		want  string
	}{
		{"waits", waiting, pkcs12s(doc), seal, "waits: NotDeliverable"},
		{"no seal", doc, pkcs12s(doc), nil, "nothing to seal"},
		{"seal fails", doc, pkcs12s(doc), func([]byte) ([]byte, error) { return nil, errors.New("no key") }, "no key"},
		{"no PKCS#12", doc, nil, seal, "no PKCS#12"},
		{"no password", doc, map[string]platforms.PKCS12{doc.Credentials[0].SHA256: {Bytes: []byte("x")}}, seal, "no PKCS#12"},
		{"secrets without credentials", bare, nil, nil, "do not belong together"},
		{"two credentials", two, pkcs12s(two), seal, "2 credentials"},
		{"computer's store", elsewhere, pkcs12s(doc), seal, "not to ./Device"},
		{"another certificate's node", other, pkcs12s(other), seal, "and its SHA-1"},
		{"exportable key", bent(func(b *body) { b.Nodes[1].Data = "true" }), pkcs12s(doc), seal, "not those of a PKCS#12 import"},
		{"plain password", bent(func(b *body) { b.Nodes[3].Data = "0" }), pkcs12s(doc), seal, "not those"},
		{"blob as password", bent(func(b *body) { b.Nodes[2].Secret = secretPKCS12 }), pkcs12s(doc), seal, "not those"},
		{"secret elsewhere", bent(func(b *body) { b.Nodes[2].LocURI = "./DevDetail/Ext/Microsoft/DeviceName" }), pkcs12s(doc), seal, "not those"},
		{"one more node", bent(func(b *body) { b.Nodes = append(b.Nodes, node{LocURI: "./User/x", Data: "y"}) }), pkcs12s(doc), seal, "not those"},
		{"not Atomic", bent(func(b *body) { b.Atomic = false }), pkcs12s(doc), seal, "not those"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Render(c.doc, c.creds, c.seal)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestCheckRenderedRefuses: the payload comes from a connector and must not say more, or more openly, than was asked.
func TestCheckRenderedRefuses(t *testing.T) {
	doc := historyOf2018(t)
	good := rendering(t, doc)
	bent := func(change func(*rendered)) []byte {
		var r rendered
		if err := json.Unmarshal(good, &r); err != nil {
			t.Fatal(err)
		}
		change(&r)
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	b64 := base64.StdEncoding.EncodeToString
	signed, err := cms.Sign([]byte(password), pc(t).Cert, pc(t).Key, cms.SignOptions{SigningTime: day(2026)})
	if err != nil {
		t.Fatal(err)
	}
	device := pc(t).Cert
	twice, err := cms.Encrypt(rand.Reader, []byte(password), []*x509.Certificate{device, device}, cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name    string
		payload []byte
		want    string
	}{
		{"empty", nil, "JSON"},
		{"not JSON", []byte("<SyncML/>"), "JSON"},
		{"null", []byte("null"), "asked was"},
		{"too big", bytes.Repeat([]byte(" "), maxPayload+1), "at most"},
		{"deep", bytes.Repeat([]byte("["), 100000), "JSON"},
		{"something behind", append(bytes.Clone(good), "{}"...), "follows"},
		{"unknown field", []byte(`{"verb":"Exec"}`), "unknown field"},
		{"another document", rendering(t, byID(t, Plan(sales(t)), history(enc("2020", 0, 0)))), "asked was"},
		{"another revision", bent(func(r *rendered) { r.Revision = "0" }), "asked was"},
		{"a long name", bent(func(r *rendered) { r.Identifier = strings.Repeat("é", 4000) }), "asked was"},
		{"not Atomic", bent(func(r *rendered) { r.Atomic = false }), "nodes"},
		{"fewer nodes", bent(func(r *rendered) { r.Nodes = r.Nodes[:4] }), "4 nodes"},
		{"more nodes", bent(func(r *rendered) { r.Nodes = append(r.Nodes, node{LocURI: "./User/x"}) }), "6 nodes"},
		{"another order", bent(func(r *rendered) { r.Nodes[0], r.Nodes[4] = r.Nodes[4], r.Nodes[0] }), "as planned"},
		{"another node", bent(func(r *rendered) { r.Nodes[0].LocURI = "./Vendor/MSFT/RemoteWipe/doWipe" }), "as planned"},
		{"an action", bent(func(r *rendered) { r.Nodes[4].Exec = true }), "as planned"},
		{"another format", bent(func(r *rendered) { r.Nodes[4].Format = "xml" }), "as planned"},
		{"exportable key", bent(func(r *rendered) { r.Nodes[1].Data = "true" }), "not as planned"},
		{"plain type", bent(func(r *rendered) { r.Nodes[3].Data = "0" }), "not as planned"},
		{"plain password", bent(func(r *rendered) { r.Nodes[2].Data = password }), "base64"},
		{"plain password in base64", bent(func(r *rendered) { r.Nodes[2].Data = b64([]byte(password)) }), "not encrypted"},
		{"signed password", bent(func(r *rendered) { r.Nodes[2].Data = b64(signed) }), "not encrypted"},
		{"two recipients", bent(func(r *rendered) { r.Nodes[2].Data = b64(twice) }), "to 2 certificates"},
		{"empty CMS", bent(func(r *rendered) {
			r.Nodes[2].Data = b64([]byte{0x30, 0x0f, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, 3, 0xa0, 2, 0x30, 0})
		}), "encrypted password"},
		{"CMS and more", bent(func(r *rendered) {
			der, _ := base64.StdEncoding.DecodeString(r.Nodes[2].Data)
			r.Nodes[2].Data = b64(append(der, password...))
		}), "not encrypted"},
		{"base64 in lines", bent(func(r *rendered) { r.Nodes[4].Data = "AAAA\r\nAAAA" }), "one line"},
		{"no blob", bent(func(r *rendered) { r.Nodes[4].Data = "" }), "not empty"},
		{"no base64", bent(func(r *rendered) { r.Nodes[4].Data = "***" }), "base64"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := CheckRendered(doc, c.payload)
			if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 600 {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), password) {
				t.Error("the error holds the password")
			}
			if _, _, err := Install(doc, c.payload, false); err == nil {
				t.Error("Install took it")
			}
		})
	}
}

func TestCheckRenderedWithoutSecrets(t *testing.T) {
	doc := Plan(sales(t))[0]
	payload := bytes.Replace(rendering(t, doc), []byte(`"data":"M`), []byte(`"data":"N`), 1)
	if err := CheckRendered(doc, payload); err == nil {
		t.Error("another CA certificate was taken")
	}
}

func FuzzCheckRendered(f *testing.F) {
	docs := Plan(sales(f))
	for _, d := range docs {
		f.Add(rendering(f, d))
	}
	f.Add([]byte(`{"identifier":"x","revision":"y","atomic":true,"nodes":[{"locURI":"./User","format":"chr","data":"z"}]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, d := range docs {
			err := CheckRendered(d, payload)
			commands, checks, err2 := Install(d, payload, true)
			if (err == nil) != (err2 == nil) {
				t.Fatalf("CheckRendered says %v, Install %v", err, err2)
			}
			if err == nil && (len(commands) < 2 || len(checks) == 0) {
				t.Fatalf("%d commands, %d checks", len(commands), len(checks))
			}
		}
	})
}
