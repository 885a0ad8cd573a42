package windows

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
)

const (
	deviceID = "B2F1C0A4-1111-4222-8333-444455556666"
	digits   = "0123456789ABCDEF0123456789ABCDEF"
)

func TestCSR(t *testing.T) {
	want := map[string]string{CSRPrintable: "", CSRPrintableNUL: "\x00", CSRUTF8: ""}
	for form, end := range want {
		der, err := newCSR(nil, testpki.PoolKey(t, 1), deviceID, digits, form)
		if err != nil {
			t.Fatal(err)
		}
		_, plain := x509.ParseCertificateRequest(der)
		if (plain == nil) != (form == CSRUTF8) {
			t.Errorf("%s: the standard library says %v; only UTF-8 is to its taste", form, plain)
		}
		csr, err := mde.ParseCSR(der)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		if err := csr.CheckSignature(); err != nil || csr.Subject.CommonName != deviceID[:30]+"!"+digits+end || len(csr.Extensions) != 2 {
			t.Errorf("%s: %v %q", form, err, csr.Subject.CommonName)
		}
		if got := csr.Extensions[1]; got.Id.String() != "1.3.6.1.4.1.311.66.1.0" || string(got.Value) != digits+"\x00" {
			t.Errorf("%s: %v", form, got)
		}
	}
}

func TestOpenSSLReadsTheCSR(t *testing.T) {
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	der, err := newCSR(nil, testpki.PoolKey(t, 1), deviceID, digits, CSRPrintable)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "csr.der")
	if err := os.WriteFile(file, der, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "req", "-inform", "DER", "-in", file, "-verify", "-noout", "-text").CombinedOutput()
	if err != nil || !strings.Contains(string(out), deviceID[:30]+"!"+digits) || !strings.Contains(string(out), "TLS Web Client Authentication") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestForms(t *testing.T) {
	tests := map[string]struct {
		page string
		want []form
	}{
		"nothing": {"<p>Hello", nil},
		"quotes": {`<form action='a"b' method="POST"><input name=x value='1 > 0'><INPUT NAME="y" VALUE=2/></FORM><input name=z>`,
			[]form{{action: `a"b`, method: "post", fields: []field{{kind: "text", name: "x", value: "1 > 0"}, {kind: "text", name: "y", value: "2/"}}}}},
		"entities":  {`<form action="?a=1&amp;b=2"><input type=hidden name=w value="&lt;&#39;&gt;"></form>`, []form{{action: "?a=1&b=2", fields: []field{{kind: "hidden", name: "w", value: "<'>"}}}}},
		"script":    {`<script>document.write("<form action=x>")</script ><form action=y>`, []form{{action: "y"}}},
		"comment":   {`<!-- <form action=x> --><form action=y>`, []form{{action: "y"}}},
		"first one": {`<form action=x action=y>`, []form{{action: "x"}}},
		"unclosed":  {`<form action="x`, []form{{action: "x"}}},
	}
	for name, tt := range tests {
		got := forms(tt.page)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for n, f := range got {
			if f.action != tt.want[n].action || f.method != tt.want[n].method || len(f.fields) != len(tt.want[n].fields) {
				t.Errorf("%s: %+v", name, f)
				continue
			}
			for m, in := range f.fields {
				if in != tt.want[n].fields[m] {
					t.Errorf("%s: %+v", name, in)
				}
			}
		}
	}
	if got := text("<title>T</title><style>b</style><p>Wrong&nbsp;secret,\n <b>try</b> again</p>"); got != "Wrong secret, try again" && got != "Wrong\u00a0secret, try again" {
		t.Errorf("%q", got)
	}
}

func FuzzForms(f *testing.F) {
	f.Add(`<form action='x' method=post><input name="a" value=b checked><button>x</button></form>`)
	f.Add(`<!-- x --><script>a</script><form action="ms-app://x"><input type=hidden name=wresult value="&lt;">`)
	f.Add("<a =x =\"'><//>")
	f.Fuzz(func(t *testing.T, page string) {
		found := forms(page)
		_, _, _ = handedOver(found)
		if len(text(page)) > 4*302 {
			t.Error("too long for an error")
		}
	})
}

func FuzzProvisioning(f *testing.F) {
	ca := testpki.NewCA(f, "device CA")
	id := ca.Issue(f, testpki.Options{CN: deviceID})
	f.Add([]byte(`<wap-provisioningdoc version="1.1"><characteristic type="CertificateStore"><characteristic type="My"/></characteristic></wap-provisioningdoc>`))
	f.Add([]byte(`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>` + faultBody("s:Authorization", "no", "DeviceCapReached") + `</s:Body></s:Envelope>`))
	f.Add([]byte(`<!DOCTYPE x><x/>`))
	f.Add([]byte(strings.Repeat("<a>", 40)))
	f.Add([]byte(provisioningDoc(ca.Cert, id.Cert, "User", "https://mdm.corp.test", false)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := readProvisioning(raw, id.RSA(), "User", OnPremise)
		if err == nil && (p.client == nil || p.providerID == "" || p.address == "") {
			t.Error("a document was taken that enrols nothing")
		}
		if top, err := parseXML(raw); err == nil {
			if fault := readFault(top); fault != nil && fault.Error() == "" {
				t.Error("a fault without words")
			}
			_, _ = readToken(top)
			_, _ = readPolicy(top, 2048)
		}
	})
}
