package admin_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/manifest"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/store/sqlite"
	"github.com/waxseal/waxseal/server/internal/web"
)

const token = "the-admin-token-of-this-test"

// bench is the API over a real store, with connectors and links that are played.
type bench struct {
	*api.Client
	url        string
	store      *store.DB
	connectors *fakeConnectors
	woken      int
	now        time.Time
}

type fakeConnectors struct {
	set   *escrow.SignedKeySet
	cas   []link.CA
	items []model.Connector
}

func (f *fakeConnectors) Connectors(context.Context) ([]model.Connector, error) { return f.items, nil }
func (f *fakeConnectors) CreateToken(context.Context) (string, time.Time, error) {
	return "one-time", testpki.Now().Add(time.Hour), nil
}
func (f *fakeConnectors) KeySet(context.Context) (*escrow.SignedKeySet, error) { return f.set, nil }
func (f *fakeConnectors) Authorities(context.Context) ([]link.CA, error)       { return f.cas, nil }

type fakeLinks struct{}

func (fakeLinks) CreateLink(_ context.Context, u model.User, p profiles.Platform, life time.Duration) (api.Link, error) {
	return api.Link{URL: "https://mdm.example/enroll/" + u.UPN + "/" + string(p), Expires: testpki.Now().Add(life)}, nil
}

func newBench(t *testing.T) *bench {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b := &bench{store: db, connectors: &fakeConnectors{}, now: testpki.Now()}
	s := admin.New(admin.Config{Store: db, Links: fakeLinks{}, Connectors: b.connectors, Token: token, Version: "test",
		CheckCustom: func(c []byte) error {
			if strings.Contains(string(c), "secret") {
				return errors.New("payload com.apple.wifi.managed carries Password; waxctl import pfx")
			}
			return nil
		},
		Wake: func() { b.woken++ }, Refusals: web.NewRefusals(db, nil, testpki.Now), Clock: func() time.Time { return b.now }})
	r := web.New(web.Config{})
	if err := s.Register(r); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	b.url = server.URL
	if b.Client, err = api.NewClient(server.URL, token, server.Client()); err != nil {
		t.Fatal(err)
	}
	return b
}

// sales applies the example, which needs no connector.
func (b *bench) sales(t *testing.T) {
	t.Helper()
	objects, faults := manifest.Load("../../../testdata/examples/sales.yaml")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if _, err := b.Apply(t.Context(), objects, false); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) auditActions(t *testing.T) string {
	t.Helper()
	page, err := b.Audit(t.Context(), api.PageQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range page.Items {
		out = append(out, e.Actor+":"+e.Action+":"+e.Outcome)
	}
	return strings.Join(out, " ")
}

// problem asserts that err is a problem of that status whose text holds the words.
func problem(t *testing.T, err error, status int, words ...string) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status {
		t.Fatalf("got %v, want a problem of status %d", err, status)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	b := newBench(t)
	resp, err := http.Get(b.url + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	for _, path := range []string{"/apply", "/users", "/users/{upn}", "/groups", "/profiles", "/devices", "/certificates", "/escrow", "/connectors",
		"/jobs", "/enrollment-links", "/connector-tokens", "/devices/{id}/explain", "/devices/{id}/retire", "/devices/{id}/wipe",
		"/devices/{id}/sync", "/key-set", "/audit", "/objects", "/escrow/{id}"} {
		if len(doc.Paths[api.BasePath+path]) == 0 {
			t.Errorf("%s is not described", path)
		}
	}
}

func TestToken(t *testing.T) {
	b := newBench(t)
	for _, header := range []string{"", "Bearer", "Bearer wrong", "Basic " + token, token} {
		req, _ := http.NewRequest(http.MethodGet, b.url+"/api/v1/users", nil)
		req.Header.Set("Authorization", header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 401 || resp.Header.Get("Content-Type") != api.ProblemType || strings.Contains(string(body), "wrong\"") {
			t.Errorf("%q: %d %s", header, resp.StatusCode, body)
		}
	}
	if got := b.auditActions(t); strings.Count(got, "admin:admin.authorise:refused") != 5 {
		t.Errorf("audit: %s", got)
	}
}

func TestApplyAndLists(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	if b.woken == 0 {
		t.Error("nobody was woken")
	}
	users, err := api.All(t.Context(), b.Users)
	if err != nil || len(users) != 2 || users[0].UPN != "alice@corp.test" || users[0].Groups[0] != "sales" {
		t.Errorf("users %+v, %v", users, err)
	}
	groups, err := b.Groups(t.Context(), api.PageQuery{})
	if err != nil || len(groups.Items) != 1 || len(groups.Items[0].Users) != 2 {
		t.Errorf("groups %+v, %v", groups, err)
	}
	found, err := b.Profiles(t.Context(), api.PageQuery{})
	if err != nil || len(found.Items) != 4 || found.Items[0].Assignments[0] != "sales-mail" {
		t.Errorf("profiles %+v, %v", found, err)
	}
	u, err := b.User(t.Context(), "ALICE@corp.test")
	if err != nil || u.DisplayName != "Alice Example" || u.ID == "" {
		t.Errorf("user %+v, %v", u, err)
	}
	_, err = b.User(t.Context(), "nobody@corp.test")
	problem(t, err, 404, "nobody@corp.test")
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	objects, _ := manifest.Load("../../../testdata/examples/sales.yaml")
	out, err := b.Apply(t.Context(), objects, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range out.Changes {
		if c.Action != "unchanged" {
			t.Errorf("%+v", c)
		}
	}
	if len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0].Message, "eve@corp.test") {
		t.Errorf("warnings %+v", out.Warnings)
	}
}

func TestPaging(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	first, err := b.Users(t.Context(), api.PageQuery{Limit: 1})
	if err != nil || len(first.Items) != 1 || first.Next == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := b.Users(t.Context(), api.PageQuery{Limit: 1, After: first.Next})
	if err != nil || len(second.Items) != 1 || second.Items[0].UPN != "bob@corp.test" {
		t.Errorf("%+v, %v", second, err)
	}
	objects, err := b.Objects(t.Context(), api.PageQuery{Limit: 2})
	if err != nil || len(objects.Items) != 2 {
		t.Fatalf("%+v, %v", objects, err)
	}
	rest, err := b.Objects(t.Context(), api.PageQuery{After: objects.Next})
	if err != nil || len(rest.Items) != 3 {
		t.Errorf("%+v, %v", rest, err)
	}
	_, err = b.Users(t.Context(), api.PageQuery{Limit: 5000})
	problem(t, err, 422)
}

func raw(t *testing.T, b *bench, method, path, body string) (int, string) {
	t.Helper()
	req, _ := http.NewRequest(method, b.url+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(out)
}

func TestApplyRefuses(t *testing.T) {
	b := newBench(t)
	b.connectors.cas = []link.CA{{Name: "softca"}}
	object := func(kind, name, spec string) string {
		return `{"objects":[{"apiVersion":"waxseal/v1","kind":"` + kind + `","name":"` + name + `","spec":` + spec + `}]}`
	}
	cases := []struct {
		name, body string
		status     int
		want       string
	}{
		{"no JSON", `{`, 400, ""},
		{"unknown member", `{"objects":[],"force":true}`, 422, "force"},
		{"unknown kind", object("Wifi", "x", `{}`), 422, "Wifi"},
		{"unknown field", object("User", "a@b.test", `{"displayName":"A","addresses":["a@b.test"],"phone":"1"}`), 422, "phone"},
		{"unknown CA", object("TrustedCertificate", "x", `{"certificateAuthority":"other"}`), 422, "other"},
		{"unknown profile", object("Assignment", "x", `{"profiles":["none"],"include":[{"everybody":true}]}`), 422, "none"},
		{"custom with a password", object("Custom", "wifi", `{"platforms":["ios"],"content":"c2VjcmV0"}`), 422, "waxctl import pfx"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			status, body := raw(t, b, http.MethodPost, "/api/v1/apply", tc.body)
			if status != tc.status || !strings.Contains(body, tc.want) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	if objects, err := b.Objects(t.Context(), api.PageQuery{}); err != nil || len(objects.Items) != 0 {
		t.Errorf("something was applied: %+v, %v", objects, err)
	}
	if got := b.auditActions(t); !strings.Contains(got, "admin:objects.apply:refused") {
		t.Errorf("audit: %s", got)
	}
}

func TestOversizedBodies(t *testing.T) {
	b := newBench(t)
	huge := `{"objects":"` + strings.Repeat("x", web.MaxAdmin+1) + `"}`
	if status, _ := raw(t, b, http.MethodPost, "/api/v1/apply", huge); status != 413 {
		t.Errorf("apply: %d", status)
	}
	if status, _ := raw(t, b, http.MethodPost, "/api/v1/escrow", huge); status != 413 {
		t.Errorf("import: %d", status)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	b := newBench(t)
	objects, _ := manifest.Load("../../../testdata/examples/sales.yaml")
	out, err := b.Apply(t.Context(), objects, true)
	if err != nil || len(out.Changes) != len(objects) || out.Changes[0].Action != "created" {
		t.Fatalf("%+v, %v", out, err)
	}
	if users, err := b.Users(t.Context(), api.PageQuery{}); err != nil || len(users.Items) != 0 || b.woken != 0 {
		t.Errorf("%+v, %v, woken %d", users, err, b.woken)
	}
}

func TestDelete(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	problem(t, b.DeleteObject(t.Context(), "Wifi", "x"), 422, "Wifi")
	problem(t, b.DeleteObject(t.Context(), profiles.KindEmail, "none"), 404, "none")
	problem(t, b.DeleteObject(t.Context(), profiles.KindEmail, "company-mail"), 409, "still in use")
	for _, o := range []struct {
		kind profiles.Kind
		name string
	}{{profiles.KindAssignment, "sales-mail"}, {profiles.KindEmail, "company-mail"}, {profiles.KindUser, "bob@corp.test"}} {
		if err := b.DeleteObject(t.Context(), o.kind, o.name); err != nil {
			t.Errorf("%s: %v", o.name, err)
		}
	}
}

// PK-02: a device enrols for a user; there is none without.
func TestLinksAndTokens(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	l, err := b.EnrollmentLink(t.Context(), api.LinkRequest{User: "alice@corp.test"})
	if err != nil || l.URL != "https://mdm.example/enroll/alice@corp.test/ios" || !l.Expires.Equal(b.now.Add(72*time.Hour)) {
		t.Errorf("%+v, %v", l, err)
	}
	if len(l.Warnings) != 1 || l.Warnings[0].Reason != platforms.ReasonNoPushCertificate {
		t.Errorf("warnings %+v", l.Warnings)
	}
	for _, bad := range []api.LinkRequest{{}, {User: "nobody@corp.test"}, {User: "alice@corp.test", Platform: "symbian"},
		{User: "alice@corp.test", Expires: "soon"}, {User: "alice@corp.test", Expires: "-1h"}, {User: "alice@corp.test", Expires: "9000h"}} {
		_, err := b.EnrollmentLink(t.Context(), bad)
		problem(t, err, 422)
	}
	tok, err := b.ConnectorToken(t.Context())
	if err != nil || tok.Token != "one-time" {
		t.Errorf("%+v, %v", tok, err)
	}
	_, err = b.KeySet(t.Context())
	problem(t, err, 404, "register a connector")
}

// vault is a key set with one connector.
type vault struct {
	member escrow.Member
	signed escrow.SignedKeySet
}

func newVault(t *testing.T) vault {
	t.Helper()
	_, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := escrow.GenerateKey(rand.Reader, escrow.SuiteP256)
	if err != nil {
		t.Fatal(err)
	}
	v := vault{member: key.Member(escrow.MemberConnector, "c1")}
	if v.signed, err = escrow.SignKeySet(escrow.KeySet{Serial: 1, Members: []escrow.Member{v.member}}, root); err != nil {
		t.Fatal(err)
	}
	return v
}

func seal(t *testing.T, id *testpki.Identity, owner string, to ...escrow.Member) api.ImportRequest {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		t.Fatal(err)
	}
	recordID, err := escrow.NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(id.Cert.Raw)
	r, err := escrow.Seal(rand.Reader, recordID, owner, hex.EncodeToString(sum[:]), escrow.Secret{PrivateKey: key, Chain: [][]byte{id.Cert.Raw}}, to)
	if err != nil {
		t.Fatal(err)
	}
	return api.ImportRequest{Record: r, Certificate: id.Cert.Raw, User: "alice@corp.test", Purpose: profiles.PurposeSMIMEEncryption}
}

// LC-01, among other things: whose keys are here cannot be deleted by the way.
func TestImport(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	v := newVault(t)
	b.connectors.set = &v.signed
	alice, err := b.User(t.Context(), "alice@corp.test")
	if err != nil {
		t.Fatal(err)
	}
	leaf := testpki.NewCA(t, "Old CA").Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}})
	out, err := b.Import(t.Context(), seal(t, leaf, link.UserURN(alice.ID), v.member))
	if err != nil || !out.Created {
		t.Fatalf("%+v, %v", out, err)
	}
	out, err = b.Import(t.Context(), seal(t, leaf, link.UserURN(alice.ID), v.member))
	if err != nil || out.Created {
		t.Errorf("again: %+v, %v", out, err)
	}
	records, err := b.EscrowRecords(t.Context(), api.PageQuery{})
	if err != nil || len(records.Items) != 1 || records.Items[0].User != "alice@corp.test" || records.Items[0].SealedTo[0] != v.member.ID {
		t.Fatalf("%+v, %v", records, err)
	}
	certificates, err := b.Certificates(t.Context(), api.PageQuery{})
	if err != nil || len(certificates.Items) != 1 || certificates.Items[0].Status != "current" || certificates.Items[0].Purpose != profiles.PurposeSMIMEEncryption {
		t.Errorf("%+v, %v", certificates, err)
	}
	problem(t, b.DeleteObject(t.Context(), profiles.KindUser, "alice@corp.test"), 409, "first retire or wipe")
	if err := b.DeleteRecord(t.Context(), records.Items[0].ID); err != nil {
		t.Error(err)
	}
	problem(t, b.DeleteRecord(t.Context(), "no-such-record-here"), 404)
	if got := b.auditActions(t); strings.Count(got, "admin:escrow.import:ok") != 1 || !strings.Contains(got, "admin:escrow.delete:ok") {
		t.Errorf("audit: %s", got)
	}
}

func TestImportRefuses(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	v, other := newVault(t), newVault(t)
	alice, err := b.User(t.Context(), "alice@corp.test")
	if err != nil {
		t.Fatal(err)
	}
	ca, owner := testpki.NewCA(t, "Old CA"), link.UserURN(alice.ID)
	issue := func(o testpki.Options) *testpki.Identity { return ca.Issue(t, o) }
	mine := issue(testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}})
	good := func() api.ImportRequest { return seal(t, mine, owner, v.member) }
	with := func(change func(*api.ImportRequest)) func() api.ImportRequest {
		return func() api.ImportRequest { r := good(); change(&r); return r }
	}
	sealed := func(id *testpki.Identity) func() api.ImportRequest {
		return func() api.ImportRequest { return seal(t, id, owner, v.member) }
	}
	cases := []struct {
		name   string
		status int
		make   func() api.ImportRequest
		words  []string
	}{
		{"unknown user", 422, with(func(r *api.ImportRequest) { r.User = "nobody@corp.test" }), []string{"nobody@corp.test"}},
		{"broken record", 422, with(func(r *api.ImportRequest) { r.Record.Version = 9 }), []string{"version 9"}},
		{"no certificate", 422, with(func(r *api.ImportRequest) { r.Certificate = []byte("x") }), []string{"certificate"}},
		{"other certificate", 422, with(func(r *api.ImportRequest) {
			r.Certificate = issue(testpki.Options{CN: "Alice 2", Emails: []string{"alice@corp.test"}}).Cert.Raw
		}), []string{"certSha256"}},
		{"other owner", 422, func() api.ImportRequest { return seal(t, mine, link.UserURN("somebody"), v.member) }, []string{"record.owner", "seal the key again"}},
		{"no address", 422, sealed(issue(testpki.Options{CN: "Alice"})), []string{"no mail address"}},
		{"address of another", 422, sealed(issue(testpki.Options{CN: "Bob", Emails: []string{"Bob@corp.test"}})), []string{"Bob@corp.test", "belongs to bob@corp.test"}},
		{"unknown address", 422, sealed(issue(testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test", "alice@old.test"}})), []string{"formerAddresses: [alice@old.test]"}},
		{"unknown purpose", 422, with(func(r *api.ImportRequest) { r.Purpose = "any" }), []string{`"any" is no purpose`}},
		{"purpose against key usage", 422, sealed(issue(testpki.Options{CN: "A", Emails: []string{"alice@corp.test"}, KeyUsage: x509.KeyUsageDigitalSignature})), []string{"keyEncipherment", "smimeSigning"}},
		{"broken chain", 422, with(func(r *api.ImportRequest) { r.Chain = [][]byte{{1}} }), []string{"chain[0]"}},
		{"sealed to a stranger", 409, func() api.ImportRequest { return seal(t, mine, owner, other.member) }, []string{"seal again"}},
		{"sealed to one more", 409, func() api.ImportRequest { return seal(t, mine, owner, v.member, other.member) }, []string{"not in key set"}},
	}
	b.connectors.set = &v.signed
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := b.Import(t.Context(), tc.make())
			problem(t, err, tc.status, tc.words...)
		})
	}
	b.connectors.set = nil
	_, err = b.Import(t.Context(), good())
	problem(t, err, 409, "register a connector")
	if page, err := b.EscrowRecords(t.Context(), api.PageQuery{}); err != nil || len(page.Items) != 0 {
		t.Errorf("something was stored: %+v, %v", page, err)
	}
}
