package windows

import (
	"net/http"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
)

// What our own server writes, the strict parser of the PC takes.
func TestOurServersAnswers(t *testing.T) {
	ca := testpki.NewCA(t, "device CA")
	id := ca.Issue(t, testpki.Options{CN: deviceID})
	doc := mde.ProvisioningDocument{
		Roots: [][]byte{ca.Cert.Raw}, Client: id.Cert.Raw, Store: mde.StoreUser, ProviderID: "Waxseal", Name: "Waxseal", Address: "https://mdm.corp.test/m",
		Renew: &mde.Renewal{Period: 60, Retry: 4, ROBO: true}, UPN: ann, ClientSecret: "a", ServerName: "b", ServerSecret: "c",
		ClientNonce: []byte("n"), ServerNonce: []byte("m"),
	}
	raw, err := mde.Provisioning(doc)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readProvisioning(raw, id.RSA(), "User", Federated)
	if err != nil || got.providerID != "Waxseal" || !got.client.Equal(id.Cert) || got.renew.Period != 60 {
		t.Fatalf("%+v %v", got, err)
	}
	renewed, err := mde.RenewalProvisioning(doc)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := readRenewed(renewed, id.RSA(), "User", "Waxseal"); err != nil || !cert.Equal(id.Cert) {
		t.Errorf("renewal: %v", err)
	}
	const relates = "urn:uuid:1"
	read := func(c call, raw []byte, err error) (*element, error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c.read(&answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/soap+xml; charset=utf-8"}}, body: raw}, relates)
	}
	token := call{answer: actionAnswer, space: nsTrust, name: "RequestSecurityTokenResponseCollection"}
	out, err := mde.TokenResponse(relates, raw, time.Unix(1, 0))
	found, err := read(token, out, err)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := readToken(found); err != nil || len(again) == 0 {
		t.Errorf("token: %v", err)
	}
	out, err = mde.PoliciesResponse(relates, mde.Policy{MinimalKeyLength: 2048, Validity: time.Hour, Renewal: time.Minute})
	found, err = read(call{answer: actionPolicy, space: nsPolicy, name: "GetPoliciesResponse"}, out, err)
	if err != nil {
		t.Fatal(err)
	}
	if bits, err := readPolicy(found, 2048); err != nil || bits != 2048 {
		t.Errorf("policy: %d %v", bits, err)
	}
	for _, lower := range []bool{false, true} {
		out, err = mde.FaultResponse(relates, actionAnswer, mde.Fault{Subcode: mde.Authorization, Detail: mde.ErrorType("DeviceCapReached"), Reason: "why", TraceID: "T", LowerCase: lower})
		_, err = read(token, out, err)
		contains(t, err, "80180013", "why", "T")
	}
}
