package admin_test

import (
	"testing"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/model"
)

func TestPartners(t *testing.T) {
	b := newBench(t)
	ca := testpki.NewCA(t, "Partner CA")
	request := api.PartnerRequest{Name: "ejbca", URL: "http://ca.example/scep/pkiclient.exe", Chain: [][]byte{ca.Cert.Raw}}
	p, err := b.AddPartner(t.Context(), request)
	if err != nil || p.Secret == "" || len(p.AppID) != 36 || p.Subject != "CN=Partner CA,O=Example" {
		t.Fatalf("%+v, %v", p, err)
	}
	if b.woken != 1 {
		t.Errorf("woken %d times", b.woken)
	}
	stored, err := b.store.PartnerByApp(t.Context(), p.AppID)
	if err != nil || stored.SecretHash != model.PartnerSecretHash(p.Secret) {
		t.Errorf("stored %+v, %v", stored, err)
	}
	_, err = b.AddPartner(t.Context(), request)
	problem(t, err, 409, "ejbca")
	all, err := api.All(t.Context(), b.Partners)
	if err != nil || len(all) != 1 || all[0].Secret != "" || all[0].AppID != p.AppID {
		t.Errorf("%+v, %v", all, err)
	}
	if err := b.RemovePartner(t.Context(), "ejbca"); err != nil {
		t.Fatal(err)
	}
	problem(t, b.RemovePartner(t.Context(), "ejbca"), 404, "ejbca")
	if got := b.auditActions(t); got != "admin:partner.add:ok admin:partner.remove:ok" {
		t.Error(got)
	}
}

func TestPartnersThatAreNone(t *testing.T) {
	b := newBench(t)
	ca, other := testpki.NewCA(t, "Partner CA"), testpki.NewCA(t, "Other CA")
	leaf := ca.Issue(t, testpki.Options{CN: "leaf"})
	good := api.PartnerRequest{Name: "ejbca", URL: "https://ca.example/scep", Chain: [][]byte{ca.Cert.Raw}}
	cases := []struct {
		name string
		edit func(r *api.PartnerRequest)
		want string
	}{
		{"no name", func(r *api.PartnerRequest) { r.Name = "" }, "name"},
		{"a name with a slash", func(r *api.PartnerRequest) { r.Name = "a/b" }, "name"},
		{"no URL", func(r *api.PartnerRequest) { r.URL = "ca.example" }, "url"},
		{"a URL with a password", func(r *api.PartnerRequest) { r.URL = "https://a:b@ca.example" }, "url"},
		{"a query", func(r *api.PartnerRequest) { r.URL = "https://ca.example/?operation=x" }, "url"},
		{"no certificate", func(r *api.PartnerRequest) { r.Chain = nil }, "chain"},
		{"garbage", func(r *api.PartnerRequest) { r.Chain = [][]byte{[]byte("x")} }, "certificate 1"},
		{"a leaf", func(r *api.PartnerRequest) { r.Chain = [][]byte{leaf.Cert.Raw, ca.Cert.Raw} }, "certificate 1"},
		{"a wrong root", func(r *api.PartnerRequest) { r.Chain = [][]byte{ca.Cert.Raw, other.Cert.Raw} }, "certificate 2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := good
			c.edit(&r)
			_, err := b.AddPartner(t.Context(), r)
			problem(t, err, 422, c.want)
		})
	}
}

// TestPartnerIsACA: get cas shows where devices ask it, profiles may name it, and no connector can test it.
func TestPartnerIsACA(t *testing.T) {
	b := newBench(t)
	ca := testpki.NewCA(t, "Partner CA")
	p := model.Partner{Name: "ejbca", URL: "https://ca.example/scep", Chain: [][]byte{ca.Cert.Raw}}
	b.connectors.cas = []link.CA{p.CA()}
	cas, err := api.All(t.Context(), b.CAs)
	if err != nil || len(cas) != 1 || cas[0].Kind != "partner" || cas[0].URL != p.URL || len(cas[0].Connectors) != 0 {
		t.Errorf("%+v, %v", cas, err)
	}
	_, err = b.TestCA(t.Context(), "ejbca")
	problem(t, err, 409, "partner", p.URL)
	b.sales(t) // of a CA that no connector has told of yet
}
