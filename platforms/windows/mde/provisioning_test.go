package mde

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"math/big"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// provisioned is how a strict PC reads the document; what has no place in it is in the Else fields.
type provisioned struct {
	XMLName xml.Name   `xml:"wap-provisioningdoc"`
	Version string     `xml:"version,attr"`
	Inner   []settings `xml:"characteristic"`
	Else    []xmlTree  `xml:",any"`
}

type settings struct {
	Type  string     `xml:"type,attr"`
	Attrs []xml.Attr `xml:",any,attr"`
	Parms []setting  `xml:"parm"`
	Inner []settings `xml:"characteristic"`
	Else  []xmlTree  `xml:",any"`
}

type setting struct {
	Name     string     `xml:"name,attr"`
	Value    *string    `xml:"value,attr"`
	Datatype string     `xml:"datatype,attr"`
	Attrs    []xml.Attr `xml:",any,attr"`
}

// flatten puts the document into paths. An APPAUTH is told from the other by its level.
func flatten(t *testing.T, document []byte) map[string]string {
	t.Helper()
	var p provisioned
	if err := xml.Unmarshal(document, &p); err != nil {
		t.Fatal(err)
	}
	if p.Version != "1.1" || len(p.Else) > 0 || bytes.ContainsAny(document, "\r\n\t") {
		t.Errorf("document of version %q with %v", p.Version, p.Else)
	}
	all := map[string]string{}
	for _, s := range p.Inner {
		s.flatten(t, "", all)
	}
	return all
}

func (s settings) flatten(t *testing.T, prefix string, all map[string]string) {
	path := prefix + s.Type
	if len(s.Parms) > 0 && s.Parms[0].Name == "AAUTHLEVEL" {
		path += "-" + *s.Parms[0].Value
	}
	if _, twice := all[path+"/"]; twice || s.Type == "" || len(s.Attrs)+len(s.Else) > 0 {
		t.Errorf("characteristic %s: twice, without type, or with more than it may have", path)
	}
	all[path+"/"] = ""
	for _, p := range s.Parms {
		name := path + "/" + p.Name
		if _, twice := all[name]; twice || len(p.Attrs) > 0 {
			t.Errorf("parm %s: twice, or with attributes that it may not have", name)
		}
		all[name] = "none"
		if p.Value != nil {
			all[name] = strings.TrimSpace(p.Datatype + " " + *p.Value)
		}
	}
	for _, inner := range s.Inner {
		inner.flatten(t, path+"/", all)
	}
}

func provisioningDocument(t testing.TB, store string) ProvisioningDocument {
	root := testpki.NewCA(t, "Waxseal Root")
	issuing := root.Intermediate(t, "Waxseal Device CA")
	return ProvisioningDocument{
		Roots: [][]byte{root.Cert.Raw}, Intermediates: [][]byte{issuing.Cert.Raw},
		Client: channelCertificate(t, issuing), Store: store,
		ProviderID: "Waxseal", Name: "Waxseal & friends", Address: "https://mdm.corp.test/ManagementServer/MDM.svc",
		Renew: &Renewal{Period: 60, Retry: 4, ROBO: true}, UPN: "ann@corp.test", DeviceName: "Ann_Windows",
		ClientSecret: "c<lient", ServerName: "pc-1", ServerSecret: `s"erver`, ClientNonce: []byte{0xff, 1, 2}, ServerNonce: []byte("nonce"),
	}
}

// channelCertificate has a common name and nothing else, as the device CA issues it.
func channelCertificate(t testing.TB, issuing *testpki.CA) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: deviceID},
		NotBefore: testpki.Now(), NotAfter: testpki.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuing.Cert, testpki.PoolKey(t, 3).Public(), issuing.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func hash(der []byte) string { return fmt.Sprintf("%X", sha1.Sum(der)) }

func TestProvisioning(t *testing.T) {
	for _, store := range []string{StoreUser, StoreSystem} {
		p := provisioningDocument(t, store)
		b, err := Provisioning(p)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "provisioning-"+store+".xml", b)
		got := flatten(t, b)
		for path, want := range expected(p) {
			if got[path] != want {
				t.Errorf("%s: got %q, want %q", path, got[path], want)
			}
			delete(got, path)
		}
		for path := range got {
			if !strings.HasSuffix(path, "/") {
				t.Errorf("%s has no place here", path)
			}
		}
	}
}

// expected is windows.md 1.7 in paths.
func expected(p ProvisioningDocument) map[string]string {
	certificate := func(der []byte) string { return base64.StdEncoding.EncodeToString(der) }
	my := "CertificateStore/My/"
	poll := "DMClient/Provider/Waxseal/Poll/"
	return map[string]string{
		"CertificateStore/Root/System/" + hash(p.Roots[0]) + "/EncodedCertificate":       certificate(p.Roots[0]),
		"CertificateStore/CA/System/" + hash(p.Intermediates[0]) + "/EncodedCertificate": certificate(p.Intermediates[0]),
		my + p.Store + "/" + hash(p.Client) + "/EncodedCertificate":                      certificate(p.Client),
		my + p.Store + "/PrivateKeyContainer/":                                           "",
		my + "WSTEP/Renew/ROBOSupport":                                                   "boolean true", my + "WSTEP/Renew/RenewPeriod": "integer 60", my + "WSTEP/Renew/RetryInterval": "integer 4",
		"APPLICATION/APPID": "w7", "APPLICATION/PROVIDER-ID": "Waxseal", "APPLICATION/NAME": "Waxseal & friends",
		"APPLICATION/ADDR": p.Address, "APPLICATION/CONNRETRYFREQ": "6", "APPLICATION/INITIALBACKOFFTIME": "30000", "APPLICATION/MAXBACKOFFTIME": "120000",
		"APPLICATION/BACKCOMPATRETRYDISABLED": "none", "APPLICATION/DEFAULTENCODING": "application/vnd.syncml.dm+xml",
		"APPLICATION/SSLCLIENTCERTSEARCHCRITERIA": "Subject=CN%3D" + deviceID + "&Stores=My%5C" + p.Store,
		"APPLICATION/APPAUTH-CLIENT/AAUTHLEVEL":   "CLIENT", "APPLICATION/APPAUTH-CLIENT/AAUTHTYPE": "DIGEST",
		"APPLICATION/APPAUTH-CLIENT/AAUTHSECRET": "c<lient", "APPLICATION/APPAUTH-CLIENT/AAUTHDATA": "/wEC",
		"APPLICATION/APPAUTH-APPSRV/AAUTHLEVEL": "APPSRV", "APPLICATION/APPAUTH-APPSRV/AAUTHTYPE": "DIGEST",
		"APPLICATION/APPAUTH-APPSRV/AAUTHNAME": "pc-1", "APPLICATION/APPAUTH-APPSRV/AAUTHSECRET": `s"erver`,
		"APPLICATION/APPAUTH-APPSRV/AAUTHDATA": "bm9uY2U=",
		"DMClient/Provider/Waxseal/UPN":        "string ann@corp.test", "DMClient/Provider/Waxseal/EntDeviceName": "string Ann_Windows",
		poll + "NumberOfFirstRetries": "integer 8", poll + "IntervalForFirstSetOfRetries": "integer 15",
		poll + "NumberOfSecondRetries": "integer 5", poll + "IntervalForSecondSetOfRetries": "integer 60",
		poll + "NumberOfRemainingScheduledRetries": "integer 0", poll + "IntervalForRemainingScheduledRetries": "integer 1560",
		poll + "PollOnLogin": "boolean true", poll + "AllUsersPollOnFirstLogin": "boolean true",
	}
}

func TestProvisioningOptions(t *testing.T) {
	p := provisioningDocument(t, StoreUser)
	p.Roots, p.Intermediates, p.Renew, p.UPN, p.DeviceName = nil, nil, nil, "", ""
	p.RequireMessageSigning, p.EntDMID = true, "d-1"
	p.Poll = Poll{IntervalForFirstSetOfRetries: 1}
	p.Backoff = Backoff{Retries: 1}
	p.Client = testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "PC & 1"}).Cert.Raw
	b, err := Provisioning(p)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "provisioning-options.xml", b)
	got := flatten(t, b)
	for path, want := range map[string]string{
		"DMClient/Provider/Waxseal/RequireMessageSigning":             "boolean true",
		"DMClient/Provider/Waxseal/EntDMID":                           "string d-1",
		"DMClient/Provider/Waxseal/Poll/IntervalForFirstSetOfRetries": "integer 1",
		"DMClient/Provider/Waxseal/Poll/PollOnLogin":                  "boolean false",
		"APPLICATION/CONNRETRYFREQ":                                   "1",
		"APPLICATION/INITIALBACKOFFTIME":                              "0",
	} {
		if got[path] != want {
			t.Errorf("%s: got %q", path, got[path])
		}
	}
	if criteria, err := url.ParseQuery(got["APPLICATION/SSLCLIENTCERTSEARCHCRITERIA"]); err != nil || criteria.Get("Subject") != "O=Example,CN=PC & 1" || criteria.Get("Stores") != `My\User` {
		t.Errorf("criteria: %v, %v", criteria, err)
	}
	for path := range got {
		if strings.Contains(path, "/Root/") || strings.Contains(path, "/CA/") || strings.Contains(path, "WSTEP") || strings.HasSuffix(path, "/UPN") {
			t.Errorf("%s was not asked for", path)
		}
	}
}

func TestRenewalProvisioning(t *testing.T) {
	p := provisioningDocument(t, StoreSystem)
	b, err := RenewalProvisioning(ProvisioningDocument{Client: p.Client, Store: p.Store, ProviderID: p.ProviderID})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "provisioning-renewal.xml", b)
	my := "CertificateStore/My/"
	want := map[string]string{
		"CertificateStore/": "", my: "", my + "System/": "", my + "System/" + hash(p.Client) + "/": "",
		my + "System/" + hash(p.Client) + "/EncodedCertificate": base64.StdEncoding.EncodeToString(p.Client),
		my + "System/PrivateKeyContainer/":                      "",
		"APPLICATION/":                                          "", "APPLICATION/PROVIDER-ID": "Waxseal",
	}
	if got := flatten(t, b); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if _, err := RenewalProvisioning(ProvisioningDocument{}); err == nil {
		t.Error("an empty document: want an error")
	}
}

func TestSubject(t *testing.T) {
	if _, err := subject(nil); err == nil {
		t.Error("no name: want an error")
	}
	for _, value := range []any{"", "a,b", "a\x00", 7} {
		if _, err := subject([]pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: value}}); err == nil {
			t.Errorf("%q: want an error", value)
		}
	}
	names := []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "com"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "Users"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "Administrator"},
	}
	if got, err := subject(names); err != nil || got != "DC=com,CN=Users,CN=Administrator" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestProvisioningRefuses(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	comma := ca.Issue(t, testpki.Options{CN: "a,b"}).Cert.Raw
	cases := []struct {
		want  string
		spoil func(*ProvisioningDocument)
	}{
		{"Roots has 2 certificates", func(p *ProvisioningDocument) { p.Roots = append(p.Roots, p.Roots[0]) }},
		{"Intermediates has 2 certificates", func(p *ProvisioningDocument) { p.Intermediates = append(p.Intermediates, nil) }},
		{"Roots:", func(p *ProvisioningDocument) { p.Roots[0] = []byte("x") }},
		{"certificate in Client:", func(p *ProvisioningDocument) { p.Client = nil }},
		{"subject must be made of", func(p *ProvisioningDocument) { p.Client = comma }},
		{"Store must be", func(p *ProvisioningDocument) { p.Store = "Machine" }},
		{"ProviderID must be", func(p *ProvisioningDocument) { p.ProviderID = "MS DM Server" }},
		{"ProviderID must be", func(p *ProvisioningDocument) { p.ProviderID = "." }},
		{"ProviderID must be", func(p *ProvisioningDocument) { p.ProviderID = "Waxseal\n" }},
		{"Address must be", func(p *ProvisioningDocument) { p.Address = "http://mdm.corp.test/" }},
		{"Name is missing", func(p *ProvisioningDocument) { p.Name = "" }},
		{"ClientSecret is missing", func(p *ProvisioningDocument) { p.ClientSecret = "" }},
		{"ServerNonce is missing", func(p *ProvisioningDocument) { p.ServerNonce = nil }},
		{"Poll has a negative", func(p *ProvisioningDocument) { p.Poll.NumberOfSecondRetries = -1 }},
		{"Backoff must have", func(p *ProvisioningDocument) { p.Backoff.Retries = -1 }},
		{"Period must be", func(p *ProvisioningDocument) { p.Renew.Retry = 61 }},
	}
	for _, c := range cases {
		p := provisioningDocument(t, StoreUser)
		c.spoil(&p)
		if _, err := Provisioning(p); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "erver\"") {
			t.Errorf("%s: got %v", c.want, err)
		}
	}
}
