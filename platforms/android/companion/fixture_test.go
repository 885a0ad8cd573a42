package companion

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func now() time.Time { return time.Date(2026, time.March, 2, 9, 30, 0, 0, time.UTC) }

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// sample is a message of each kind with every field set.
type sample struct {
	name   string // of the type in the schema
	value  any
	decode func([]byte) (any, error)
}

func reader[M any](decode func([]byte) (M, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) { return decode(b) }
}

func samples() []sample {
	return []sample{
		{"EnrollRequest", enrollRequest(), reader(DecodeEnrollRequest)},
		{"EnrollResponse", enrollResponse(), reader(DecodeEnrollResponse)},
		{"State", state(), reader(DecodeState)},
		{"RenewRequest", RenewRequest{WrapKey{KeyType: WrapKeyRSA, CSR: []byte("PKCS #10")}}, reader(DecodeRenewRequest)},
		{"RenewResponse", RenewResponse{WrapKeyID: sum([]byte("wrap certificate")), WrapCertificate: []byte("wrap certificate")}, reader(DecodeRenewResponse)},
		{"PayloadRequest", PayloadRequest{Revision: "r1", WrapKeyID: sum([]byte("wrap certificate")), Nonce: "n-1"}, reader(DecodePayloadRequest)},
		{"PayloadResponse", PayloadResponse{Envelope: []byte("envelope"), Alg: EnvelopeCMS, ExpiresAt: now()}, reader(DecodePayloadResponse)},
		{"Secret", secret(), reader(DecodeSecret)},
		{"StatusReport", statusReport(), reader(DecodeStatusReport)},
		{"StatusResponse", StatusResponse{AckSeq: 7}, reader(DecodeStatusResponse)},
		{"Inventory", inventory(), reader(DecodeInventory)},
		{"Events", []Event{{Type: EventPackageAdded, Package: "com.microsoft.office.outlook", At: now()}, {Type: EventKeychainChanged, At: now()}},
			reader(DecodeEvents)},
		{"Unenroll", Unenroll{Reason: UnenrollUser}, reader(DecodeUnenroll)},
		{"Problem", Problem{Code: CodeWaitingForConnector, Detail: "The key is not encrypted yet.", RetryAfterSeconds: 30}, reader(DecodeProblem)},
		{"CSRRequest", CSRRequest{Revision: "r1", CSR: []byte("PKCS #10")}, reader(DecodeCSRRequest)},
		{"CSRResponse", csrResponse(), reader(DecodeCSRResponse)},
	}
}

func enrollRequest() EnrollRequest {
	return EnrollRequest{Protocol: Protocol, EnrollmentToken: "one-time",
		Device: Device{InstallID: "5f0c", SDKInt: 35, Release: "15", SecurityPatch: "2026-02-05", Manufacturer: "Google", Model: "Pixel 9",
			ManagementMode: ModeCompanion, AMAPIName: "enterprises/e/devices/d", Serial: "R5CT", Name: "Alice's phone"},
		Agent:   Agent{Package: "com.waxseal.companion", Version: "1.0", SigningCertSHA256: sum([]byte("signer"))},
		WrapKey: WrapKey{KeyType: WrapKeyRSA, CSR: []byte("PKCS #10")},
		Capabilities: []Capability{CapabilityCertInstall, CapabilityCertSelection, CapabilityCAInstall, CapabilityHasKeyPair,
			CapabilityGenerateKey}}
}

func enrollResponse() EnrollResponse {
	wrap := []byte("wrap certificate")
	return EnrollResponse{DeviceID: "d-1", UserHint: "Alice Example", Credential: "bearer", WrapKeyID: sum(wrap), WrapCertificate: wrap,
		Poll: Poll{IntervalSeconds: 900, JitterPercent: 20}, ServerTime: now()}
}

func state() State {
	root, leaf := []byte("root"), sum([]byte("leaf"))
	alias := "smime-enc-" + leaf[:12]
	items := []Item{
		{ID: "ca:" + sum(root), Revision: "r1", Kind: KindCACert, Op: OpInstall, CACert: &CACert{SHA256: sum(root), DER: root}},
		{ID: "identity:" + alias, Revision: "r1", Kind: KindIdentity, Op: OpInstall, DependsOn: []string{"ca:" + sum(root)},
			Identity: &Identity{Purpose: PurposeEncrypt, Current: true, Alias: alias, CertSHA256: leaf, NotBefore: now(), NotAfter: now().AddDate(1, 0, 0),
				UserSelectable: true, Payload: PayloadFetch}},
		{ID: "grant:a.b:" + alias, Revision: "r1", Kind: KindGrant, Op: OpInstall,
			Grant: &Grant{Alias: alias, Package: "a.b", SigningCertSHA256: sum([]byte("signer"))}},
		{ID: "mail:a.b", Revision: "r1", Kind: KindMailConfig, Op: OpInstall,
			MailConfig: &MailConfig{Package: "a.b", Values: map[string]any{"SMIMEEnabled": true, "exchange_host": "mail.corp.test"}}},
	}
	for i, bare := range []Item{{CACert: &CACert{SHA256: sum(leafOf("old root"))}}, {Identity: &Identity{Alias: "smime-sign-0123456789ab"}},
		{Grant: &Grant{Alias: "smime-sign-0123456789ab", Package: "a.b"}}, {MailConfig: &MailConfig{Package: "c.d"}}} {
		bare.ID, bare.Kind, bare.Op, bare.Revision = "old:"+string(items[i].Kind), items[i].Kind, OpRemove, RevisionRemoval
		items = append(items, bare)
	}
	items = append(items, generated())
	return State{Generation: "g1", ServerTime: now(), Items: items, Pending: 2,
		Policy: Policy{RemoveOnUnenroll: true, MaxAttempts: 5, ReportInventorySeconds: 86400, ReportInventory: true, Unenroll: true}}
}

// generated is an identity whose key the device makes; the certificate is there already.
func generated() Item {
	alias := "smime-sign-fedcba987654"
	return Item{ID: "identity:" + alias, Revision: "r1", Kind: KindIdentity, Op: OpInstall, Identity: &Identity{Purpose: PurposeSign, Current: true, Alias: alias,
		CertSHA256: sum(leafOf("signing")), NotBefore: now(), NotAfter: now().AddDate(1, 0, 0), Payload: PayloadGenerate,
		Generate: &Generate{KeyAlg: KeyAlgRSA, KeySize: 2048, Subject: []byte("Name"), Names: []Name{{NameEmail, "alice@corp.test"}, {NameUPN, "alice@corp.test"}},
			KeyUsage: []string{"digitalSignature"}}}}
}

func csrResponse() CSRResponse {
	return CSRResponse{CertSHA256: sum(leafOf("leaf")), Chain: [][]byte{leafOf("leaf"), leafOf("issuer")}}
}

func leafOf(name string) []byte { return []byte(name) }

func secret() Secret {
	return Secret{Format: SecretFormat, Key: []byte("hunter2"), Chain: [][]byte{leafOf("leaf"), leafOf("issuer")}, CertSHA256: sum(leafOf("leaf")),
		ItemID: "identity:smime-enc-0123456789ab", Revision: "r1"}
}

func statusReport() StatusReport {
	return StatusReport{Revision: "r1", Seq: 7, State: StateFailed, Attempt: 2, At: now(),
		Observed: &Observed{Alias: "smime-enc-0123456789ab", CertSHA256: sum(leafOf("leaf")), HasKeyPair: true, GrantedTo: []string{"a.b"}},
		Error:    &Error{Code: ErrKeychainRefused, Retryable: true, Detail: "installKeyPair returned false", Exception: "java.lang.SecurityException"}}
}

func inventory() Inventory {
	return Inventory{SDKInt: 36, Release: "16", Generation: "g1", CAs: []string{sum(leafOf("root"))}, Capabilities: []Capability{CapabilityCertInstall},
		Identities: []Held{{Alias: "smime-enc-0123456789ab", CertSHA256: sum(leafOf("leaf")), Present: true, Grants: []string{"a.b", "c.d"}},
			{Alias: "smime-enc-ba9876543210"}},
		MailConfigs: []Configured{{Package: "a.b", Revision: "r1"}}, Apps: []App{{Package: "a.b", Version: "4.2"}},
		ScreenLock: true, UserUnlocked: true}
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// golden compares with a file of testdata/golden; WAXSEAL_UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if os.Getenv("WAXSEAL_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; WAXSEAL_UPDATE_GOLDEN=1 writes it anew\n%s", name, got)
	}
}

// replaced is the message with one piece of its JSON changed.
func replaced(t testing.TB, v any, old, with string) []byte {
	t.Helper()
	b := string(encoded(t, v))
	if !strings.Contains(b, old) {
		t.Fatalf("%q is not in %s", old, b)
	}
	return []byte(strings.Replace(b, old, with, 1))
}
