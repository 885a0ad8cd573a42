package apple

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

const alice = "alice@example.com"

// mailPayload is a complete IMAP account.
func mailPayload(more dict) dict {
	p := payloadDict(kindMail, "mail", dict{
		"EmailAccountType": "EmailTypeIMAP", "EmailAddress": alice, "EmailAccountName": "Alice",
		"IncomingMailServerAuthentication": "EmailAuthPassword", "IncomingMailServerHostName": "imap.example.com", "IncomingMailServerUsername": "alice",
		"OutgoingMailServerAuthentication": "EmailAuthPassword", "OutgoingMailServerHostName": "smtp.example.com",
	})
	for k, v := range more {
		if v == nil {
			delete(p, k)
			continue
		}
		p[k] = v
	}
	return p
}

func easPayload(more dict) dict {
	p := payloadDict(kindEAS, "eas", dict{"EmailAddress": alice, "Host": "eas.example.com", "UserName": "alice"})
	for k, v := range more {
		if v == nil {
			delete(p, k)
			continue
		}
		p[k] = v
	}
	return p
}

// with changes a dictionary.
func with(d dict, key string, value any) dict {
	if value == nil {
		delete(d, key)
	} else {
		d[key] = value
	}
	return d
}

func issue(t *testing.T, ca *testpki.CA, o testpki.Options) *testpki.Identity {
	t.Helper()
	if o.Emails == nil {
		o.Emails = []string{alice}
	}
	return ca.Issue(t, o)
}

// Every way in which a profile is refused, with the domain and code of the innermost error that the server gets.
func TestInstallRefused(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	ca := testpki.NewCA(t, "mail CA")
	good := issue(t, ca, testpki.Options{})
	signOnly := issue(t, ca, testpki.Options{KeyUsage: x509.KeyUsageDigitalSignature})
	encryptOnly := issue(t, ca, testpki.Options{KeyUsage: x509.KeyUsageKeyEncipherment})
	tls := issue(t, ca, testpki.Options{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	upper := issue(t, ca, testpki.Options{Emails: []string{"Alice@example.com", alice}})
	root := func() dict { return payloadDict(kindRoot, "root", dict{"PayloadContent": ca.Cert.Raw}) }
	id := func() dict { return p12(t, "id", good, pfx.LegacyDES) }
	sign := dict{"SMIMESigningCertificateUUID": "U-id"}
	encrypt := dict{"SMIMEEncryptionCertificateUUID": "U-id"}
	one := func(p ...dict) []byte { return encode(t, profileDict("org.x", p...)) }
	top := func(key string, value any) []byte {
		return encode(t, with(profileDict("org.x", root()), key, value))
	}
	signed, err := cms.Sign(one(root()), good.Cert, good.Key, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Replace(signed, []byte("org.root"), []byte("org.toor"), 1)
	tests := map[string]struct {
		data   []byte
		domain string
		code   int
	}{
		"empty":                   {nil, domainProfile, 1000},
		"no property list":        {[]byte("hello"), domainProfile, 1000},
		"version 2":               {top("PayloadVersion", 2), domainProfile, 1001},
		"no identifier":           {top("PayloadIdentifier", nil), domainProfile, 1002},
		"no UUID":                 {top("PayloadUUID", nil), domainProfile, 1002},
		"no version":              {top("PayloadVersion", nil), domainProfile, 1002},
		"no content":              {top("PayloadContent", nil), domainProfile, 1002},
		"identifier of bad type":  {top("PayloadIdentifier", 3), domainProfile, 1003},
		"content of bad type":     {top("PayloadContent", "x"), domainProfile, 1003},
		"payload of bad type":     {top("PayloadContent", []any{"x"}), domainProfile, 1003},
		"broken signature":        {broken, domainProfile, 1004},
		"no payloads":             {top("PayloadContent", []any{}), domainProfile, 1005},
		"encrypted to another":    {encryptedProfile(t, "org.x", good.Cert, root()), domainProfile, 1006},
		"two UUIDs alike":         {one(root(), with(id(), "PayloadUUID", "U-root")), domainProfile, 1007},
		"two identifiers alike":   {one(root(), with(id(), "PayloadIdentifier", "org.root")), domainProfile, 1008},
		"not a Configuration":     {top("PayloadType", "Profile Service"), domainProfile, 1010},
		"scope":                   {top("PayloadScope", "Moon"), domainProfile, 1010},
		"payload version":         {one(with(root(), "PayloadVersion", 2)), domainPayload, 2001},
		"payload without type":    {one(with(root(), "PayloadType", nil)), domainPayload, 2002},
		"payload UUID type":       {one(with(root(), "PayloadUUID", 1)), domainPayload, 2003},
		"root without content":    {one(with(root(), "PayloadContent", nil)), domainPayload, 2002},
		"root of bad type":        {one(with(root(), "PayloadContent", "x")), domainPayload, 2003},
		"root malformed":          {one(with(root(), "PayloadContent", []byte("x"))), domainCertificate, 9005},
		"two in one payload":      {one(with(root(), "PayloadContent", append(ca.CertPEM(), good.CertPEM()...))), domainCertificate, 9001},
		"wrong password":          {one(with(id(), "Password", "x")), domainCertificate, 9000},
		"no password":             {one(with(id(), "Password", nil)), domainCertificate, 9000},
		"p12 malformed":           {one(with(id(), "PayloadContent", []byte("x"))), domainCertificate, 9005},
		"acme":                    {one(payloadDict(kindACME, "acme", nil)), domainInstall, 4023},
		"mail without type":       {one(mailPayload(dict{"EmailAccountType": nil})), domainPayload, 2002},
		"mail without in auth":    {one(mailPayload(dict{"IncomingMailServerAuthentication": nil})), domainPayload, 2002},
		"mail without in host":    {one(mailPayload(dict{"IncomingMailServerHostName": nil})), domainPayload, 2002},
		"mail without out auth":   {one(mailPayload(dict{"OutgoingMailServerAuthentication": nil})), domainPayload, 2002},
		"mail without out host":   {one(mailPayload(dict{"OutgoingMailServerHostName": nil})), domainPayload, 2002},
		"mail host of bad type":   {one(mailPayload(dict{"OutgoingMailServerHostName": 1})), domainPayload, 2003},
		"mail of another type":    {one(mailPayload(dict{"EmailAccountType": "X400"})), domainPayload, 2004},
		"mail authentication":     {one(mailPayload(dict{"OutgoingMailServerAuthentication": "x"})), domainPayload, 2004},
		"mail without address":    {one(mailPayload(dict{"EmailAddress": nil})), domainInstall, 4021},
		"switch of bad type":      {one(mailPayload(dict{"SMIMESigningEnabled": "yes"})), domainPayload, 2003},
		"signing not found":       {one(mailPayload(sign)), domainMail, 7003},
		"encryption not found":    {one(easPayload(encrypt)), domainMail, 7003},
		"names a root":            {one(root(), mailPayload(dict{"SMIMESigningCertificateUUID": "U-root"})), domainMail, 7003},
		"signing in other case":   {one(p12(t, "id", upper, pfx.LegacyDES), mailPayload(sign)), domainMail, 7004},
		"signing usage":           {one(p12(t, "id", encryptOnly, pfx.LegacyDES), mailPayload(sign)), domainMail, 7004},
		"encryption usage":        {one(p12(t, "id", signOnly, pfx.LegacyDES), mailPayload(encrypt)), domainMail, 7004},
		"extended usage":          {one(p12(t, "id", tls, pfx.LegacyDES), easPayload(encrypt)), domainMail, 7004},
		"eas without host":        {one(easPayload(dict{"Host": nil})), domainEAS, 21003},
		"eas without user":        {one(easPayload(dict{"UserName": nil})), domainInstall, 4021},
		"eas without address":     {one(easPayload(dict{"EmailAddress": nil})), domainInstall, 4021},
		"eas client certificate":  {one(easPayload(dict{"PayloadCertificateUUID": "U-x"})), domainEAS, 21007},
		"two accounts":            {one(easPayload(nil), with(with(easPayload(nil), "PayloadUUID", "U-2"), "PayloadIdentifier", "org.2")), domainEAS, 21005},
		"scep unreachable":        {one(payloadDict(kindSCEP, "scep", dict{"PayloadContent": dict{"URL": "https://127.0.0.1:1/"}})), domainSCEP, 22005},
		"scep without URL":        {one(payloadDict(kindSCEP, "scep", dict{"PayloadContent": dict{"Name": "x"}})), domainPayload, 2002},
		"a second MDM profile":    {encode(t, with(s.enrolmentProfile(), "PayloadIdentifier", "org.second")), domainMDM, 12009},
		"identity without a pair": {one(with(id(), "PayloadContent", keyless(t, good))), domainCertificate, 9006},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t, d)
			s.send(installCommand(tt.data))
			_, err := d.Sync(t.Context(), 0)
			if err == nil {
				t.Fatal("installed")
			}
			result := s.last()
			chain := proplist.Array(result, "ErrorChain")
			if len(chain) == 0 || result["Status"] != statusError {
				t.Fatalf("result %v", result)
			}
			outer, inner := chain[0].(dict), chain[len(chain)-1].(dict)
			if proplist.String(inner, "ErrorDomain") != tt.domain || proplist.Int(inner, "ErrorCode") != tt.code {
				t.Errorf("got %v", chain)
			}
			if proplist.String(outer, "ErrorDomain") != domainInstall {
				t.Errorf("outermost error %v", outer)
			}
			if after := snapshot(t, d); after != before {
				t.Errorf("not rolled back:\n%s\n%s", before, after)
			}
		})
	}
}

// keyless is a PKCS#12 file without a private key.
func keyless(t *testing.T, id *testpki.Identity) []byte {
	t.Helper()
	return openssl(t, id.CertPEM(), "pkcs12", "-export", "-nokeys", "-passout", "pass:s3cret", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
}

// snapshot is everything that an installation may change.
func snapshot(t *testing.T, d *Device) string {
	t.Helper()
	var out strings.Builder
	for _, p := range d.Profiles() {
		fmt.Fprintln(&out, p)
	}
	for _, i := range d.Keychain().Items() {
		fmt.Fprintln(&out, i.ID(), i.Key != nil, i.Trusted, i.Holders)
	}
	fmt.Fprintln(&out, d.Accounts())
	files, err := filepath.Glob(d.Folder().Path("*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return out.String() + strings.Join(files, "\n")
}

// encryptedProfile encrypts the array of payloads, as Apple's documentation says.
func encryptedProfile(t *testing.T, id string, to *x509.Certificate, payloads ...dict) []byte {
	t.Helper()
	top := profileDict(id, payloads...)
	sealed, err := cms.Encrypt(rand.Reader, encode(t, top["PayloadContent"]), []*x509.Certificate{to}, cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	delete(top, "PayloadContent")
	top["EncryptedPayloadContent"], top["IsEncrypted"] = sealed, true
	return encode(t, top)
}

func TestInstallEncryptedAndSigned(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	ca := testpki.NewCA(t, "mail CA")
	id := issue(t, ca, testpki.Options{})
	data := encryptedProfile(t, "org.keys", d.Keychain().Identities()[0].Certificate, p12(t, "id", id, pfx.LegacyDES, ca.Cert))
	signer := ca.Issue(t, testpki.Options{CN: "profile signer"})
	signed, err := cms.Sign(data, signer.Cert, signer.Key, cms.SignOptions{Chain: []*x509.Certificate{ca.Cert}})
	if err != nil {
		t.Fatal(err)
	}
	s.send(installCommand(signed), dict{"RequestType": "ProfileList"}, dict{"RequestType": "CertificateList", "ManagedOnly": true})
	mustSync(t, d)
	list := proplist.Array(s.results[len(s.results)-2], "ProfileList")
	item := list[1].(dict)
	if item["PayloadIdentifier"] != "org.keys" || item["PayloadUUID"] != "TOP-org.keys" || item["IsEncrypted"] != true || item["IsManaged"] != true {
		t.Errorf("ProfileList item %v", item)
	}
	if _, there := item["PayloadContent"]; there {
		t.Error("ProfileList shows the content of an encrypted profile")
	}
	if signers := proplist.Array(item, "SignerCertificates"); len(signers) != 2 || !bytes.Equal(signers[0].([]byte), signer.Cert.Raw) {
		t.Errorf("signers: %d", len(signers))
	}
	found := false
	for _, c := range proplist.Array(s.last(), "CertificateList") {
		entry := c.(dict)
		found = found || bytes.Equal(entry["Data"].([]byte), id.Cert.Raw) && entry["IsIdentity"] == true
	}
	if !found {
		t.Error("CertificateList lacks the identity")
	}
	out := t.TempDir()
	if err := d.ExportProfiles(out); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(out, "org.keys.mobileconfig"))
	if err != nil || !bytes.Contains(raw, []byte(kindPKCS12)) || bytes.Contains(raw, []byte("EncryptedPayloadContent")) {
		t.Errorf("exported profile: %v", err)
	}
}

func TestReplaceAndRemove(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	ca := testpki.NewCA(t, "mail CA")
	first, second := issue(t, ca, testpki.Options{CN: "first"}), issue(t, ca, testpki.Options{CN: "second"})
	has := func(id *testpki.Identity) bool {
		return slices.ContainsFunc(d.Keychain().Identities(), func(i keyItem) bool { return i.Certificate.Equal(id.Cert) })
	}
	install := func(p ...dict) {
		t.Helper()
		s.send(installCommand(encode(t, profileDict("org.mail", p...))))
		mustSync(t, d)
	}
	install(p12(t, "first", first, pfx.LegacyDES), mailPayload(dict{"SMIMESigningCertificateUUID": "U-first"}))
	if !has(first) || len(d.Accounts()) != 1 || d.Accounts()[0].SigningUUID != "U-first" {
		t.Fatalf("accounts %+v", d.Accounts())
	}
	install(p12(t, "second", second, pfx.LegacyDES), mailPayload(dict{"SMIMESigningCertificateUUID": "U-second", "IncomingMailServerHostName": "new.example.com"}))
	if has(first) || !has(second) || len(d.Accounts()) != 1 || d.Accounts()[0].Host != "new.example.com" {
		t.Fatalf("after replacement: %v %v %+v", has(first), has(second), d.Accounts())
	}
	// The same UUID with another identity in it is an update in place.
	install(p12(t, "second", first, pfx.LegacyDES))
	if !has(first) || has(second) || len(d.Accounts()) != 0 {
		t.Fatal("the payload was not updated in place")
	}
	s.send(
		dict{"RequestType": "RemoveProfile", "Identifier": "org.mail"},
		dict{"RequestType": "ProfileList"},
	)
	mustSync(t, d)
	if has(first) || len(proplist.Array(s.last(), "ProfileList")) != 1 || d.Installed("org.mail") {
		t.Error("removal left something behind")
	}
	if files, err := os.ReadDir(d.Folder().Path("profiles")); err != nil || len(files) != 1 {
		t.Errorf("files of profiles: %d, %v", len(files), err)
	}
	files, err := os.ReadDir(d.Folder().Path("keychain"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestRemoveRefused(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	byHand := encode(t, profileDict("org.hand", payloadDict("com.apple.wifi.managed", "wifi", nil)))
	if err := d.InstallFile(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	for id, code := range map[string]string{"org.none": "12075", "org.hand": "12013"} {
		s.send(dict{"RequestType": "RemoveProfile", "Identifier": id})
		_, err := d.Sync(t.Context(), 0)
		contains(t, err, "MCMDMErrorDomain "+code)
	}
	s.send(installCommand(byHand))
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "12013")
}

func TestSharedItem(t *testing.T) {
	for _, dropped := range []bool{false, true} {
		s := newServer(t)
		d := s.device(t)
		if dropped {
			if err := d.Chaos(ChaosDropShared); err != nil {
				t.Fatal(err)
			}
		}
		id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
		s.send(
			installCommand(encode(t, profileDict("org.a", p12(t, "a", id, pfx.LegacyDES)))),
			installCommand(encode(t, profileDict("org.b", p12(t, "b", id, pfx.LegacyDES)))),
			dict{"RequestType": "RemoveProfile", "Identifier": "org.a"},
		)
		mustSync(t, d)
		if _, there := d.Keychain().ByFingerprint(keychainID(id)); there == dropped {
			t.Errorf("drop-shared %v: item there %v", dropped, there)
		}
	}
}

// The importer takes what Apple's takes, by version.
func TestImporter(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	id := issue(t, ca, testpki.Options{})
	ec := issue(t, ca, testpki.Options{KeyType: testpki.P256})
	file := func(id *testpki.Identity, args ...string) []byte {
		path := filepath.Join(t.TempDir(), "id.pem")
		if err := os.WriteFile(path, append(id.CertPEM(), id.KeyPEM()...), 0o600); err != nil {
			t.Fatal(err)
		}
		return openssl(t, nil, append([]string{"pkcs12", "-export", "-in", path, "-passout", "pass:s3cret"}, args...)...)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed := issue(t, ca, testpki.Options{Key: edKey, KeyUsage: x509.KeyUsageDigitalSignature})
	tests := map[string]struct {
		data       []byte
		old, newer bool
	}{
		"3DES, SHA-1":              {file(id, "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"), true, true},
		"RC2-40":                   {file(id, "-legacy"), true, true},
		"EC":                       {file(ec, "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"), true, true},
		"3DES, SHA-256":            {file(id, "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha256"), false, true},
		"AES-256":                  {file(id), false, true},
		"AES-128":                  {file(id, "-keypbe", "AES-128-CBC", "-certpbe", "AES-128-CBC"), false, false},
		"AES-256 keys, 3DES certs": {file(id, "-keypbe", "AES-256-CBC", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"), false, true},
		"no MAC":                   {file(id, "-nomac"), false, false},
		"Ed25519":                  {file(ed, "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"), false, false},
		"LegacyDES":                {p12(t, "x", id, pfx.LegacyDES)["PayloadContent"].([]byte), true, true},
		"Modern2023":               {p12(t, "x", id, pfx.Modern2023)["PayloadContent"].([]byte), false, true},
	}
	for name, tt := range tests {
		for version, want := range map[string]bool{"17.7.2": tt.old, "18.0": tt.newer, "nonsense": tt.old} {
			t.Run(name+" on "+version, func(t *testing.T) {
				d, err := Open(Config{State: t.TempDir(), OSVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close() //nolint:errcheck // end of the test
				profile := profileDict("org.x", payloadDict(kindPKCS12, "x", dict{"PayloadContent": tt.data, "Password": "s3cret"}))
				err = d.InstallFile(t.Context(), encode(t, profile))
				if (err == nil) != want {
					t.Errorf("installed: %v, want %v: %v", err == nil, want, err)
				}
				if err != nil && strings.Contains(err.Error(), "s3cret") {
					t.Error("the error shows the password")
				}
			})
		}
	}
}

// A Mac is given the old importer, since it is not known which one its profile installer calls.
func TestImporterOnMac(t *testing.T) {
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	d, err := Open(Config{State: t.TempDir(), Platform: "macos", OSVersion: "26.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the test
	contains(t, d.InstallFile(t.Context(), encode(t, profileDict("org.x", p12(t, "x", id, pfx.Modern2023)))), "9000")
}

func TestExpiredIdentities(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	old := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{NotBefore: testpki.Now().AddDate(-9, 0, 0), NotAfter: testpki.Now().AddDate(-8, 0, 0)})
	profile := encode(t, profileDict("org.x", p12(t, "id", old, pfx.LegacyDES), mailPayload(dict{"SMIMEEncryptionCertificateUUID": "U-id"})))
	s.send(installCommand(profile))
	mustSync(t, d)
	if err := d.Chaos(ChaosRejectExpired); err != nil {
		t.Fatal(err)
	}
	s.send(installCommand(profile))
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "7004", "expired")
}
