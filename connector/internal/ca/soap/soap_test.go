package soap

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/internal/xmltree"
)

func TestFaults(t *testing.T) {
	for name, document := range map[string]string{
		"1.1": `<e:Envelope xmlns:e="` + NS11 + `"><e:Body><e:Fault><faultcode>e:Client</faultcode><faultstring>no
 such profile</faultstring><detail><errorcode>7</errorcode></detail></e:Fault></e:Body></e:Envelope>`,
		"1.2": `<s:Envelope xmlns:s="` + NS12 + `"><s:Body><s:Fault><s:Code><s:Value>s:Client</s:Value><s:Subcode><s:Value>a:Odd</s:Value></s:Subcode></s:Code><s:Reason><s:Text>no such profile</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>`,
	} {
		_, err := Body([]byte(document))
		var fault *Fault
		if !errors.As(err, &fault) || fault.Code != "Client" || !strings.Contains(err.Error(), "no such profile") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Body([]byte("<a/>")); err == nil {
		t.Error("no envelope")
	}
}

// TestVersions: 1.1 names the action in HTTP, 1.2 in the message.
func TestVersions(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = w.Write([]byte(`<s:Envelope xmlns:s="` + NS12 + `"><s:Body><ok/></s:Body></s:Envelope>`))
	}))
	defer server.Close()
	for _, id := range []string{"", "urn:uuid:1"} {
		n, err := Do(t.Context(), server.Client(), Call{URL: server.URL, Action: "urn:act", MessageID: id, Body: xmltree.Text("ask", "")})
		if err != nil || n.Name != "ok" {
			t.Fatal(err)
		}
		if want := id == ""; (got.Get("SOAPAction") == `"urn:act"`) != want || strings.HasPrefix(got.Get("Content-Type"), "text/xml") != want {
			t.Errorf("%v", got)
		}
	}
}

func TestCertificates(t *testing.T) {
	root := testpki.NewCA(t, "Corp Root")
	bag, err := cms.CertsOnly(root.Cert, root.Cert)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := cms.Sign([]byte("a full PKI response"), root.Cert, root.Key, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for n, der := range map[int][]byte{1: root.Cert.Raw, 2: bag} {
		if certs, err := Certificates(der); err != nil || len(certs) != n {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
	}
	if certs, err := Certificates(signed); err != nil || len(certs) == 0 {
		t.Errorf("a signed message: %v", err)
	}
	if _, err := Certificates([]byte("x")); err == nil {
		t.Error("no error")
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(`<s:Envelope xmlns:s="x"><s:Body><a b="c">d</a></s:Body></s:Envelope>`))
	f.Add([]byte(`<s:Envelope><s:Body><s:Fault><faultcode>a:b</faultcode><faultstring>c</faultstring></s:Fault></s:Body></s:Envelope>`))
	f.Fuzz(func(t *testing.T, document []byte) { _, _ = Body(document) })
}

func FuzzCertificates(f *testing.F) {
	root := testpki.NewCA(f, "Corp Root")
	bag, err := cms.CertsOnly(root.Cert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bag)
	f.Add(root.Cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) { _, _ = Certificates(der) })
}
